-- Writes an entity's record and cache anew.
-- Invariant: only while the record is still the one that the log was compared with. An append moves
-- the record, so what it has written is never overwritten by what was known before it.

-- keys: record, then those of the cache, then indexes with strays. args: the record as it was seen ('' for
-- none), as it must be ('' for none), number of strays, the strays' members, then those of the cache.
register('@LIB@_rebuild', function(keys, args)
  local record, strays = keys[1], tonumber(args[3])
  local seen = try('GET', record)
  if type(seen) == 'table' then return { 'wrongtype', record } end
  if (seen or '') ~= args[1] then return { 'changed' } end
  local a = 4 + strays
  local shape = shape_of(args[a])
  local wrong, fields = check_cache({}, keys, 2, shape)
  if wrong then return { 'wrongtype', wrong } end
  local first = #keys - strays
  for i = 1, strays do
    local t = type_of(keys[first + i])
    if t ~= 'none' and t ~= 'zset' then return { 'wrongtype', keys[first + i] } end
  end
  -- from here on nothing may fail
  for i = 1, strays do run('ZREM', keys[first + i], args[3 + i]) end
  write_cache(keys, 2, args, a, shape, fields, false)
  if args[2] == '' then run('DEL', record) else run('SET', record, args[2]) end
  return { 'ok' }
end)

-- The same for an ordering key that has no cache.
-- keys: record. args: the record as it was seen, as it must be.
register('@LIB@_rerecord', function(keys, args)
  if (run('GET', keys[1]) or '') ~= args[1] then return { 'changed' } end
  if args[2] == '' then run('DEL', keys[1]) else run('SET', keys[1], args[2]) end
  return { 'ok' }
end)
