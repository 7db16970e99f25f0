-- Applies a batch to a projection.
-- Invariant: the position moves with the writes in one step and only from the value that the
-- writes were computed from, so every event is applied exactly once by whichever replica is first.

local KEPT_IN = { HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset', SADD = 'set', SREM = 'set' }

-- keys: position, the list of keys, then those of the writes. args: expected position, new
-- position, JSON of the writes: lists of {operation, key's index, arguments…}.
register('@LIB@_project', function(keys, args)
  local position = run('GET', keys[1]) or '0-0'
  if position ~= args[1] then return { 'behind', position } end
  local writes = cjson.decode(args[3])
  local types = {}
  for _, w in ipairs(writes) do
    local t = types[w[2]] or type_of(keys[w[2]])
    if t == 'none' then t = KEPT_IN[w[1]] end
    if t ~= KEPT_IN[w[1]] then return { 'wrongtype', keys[w[2]] } end
    types[w[2]] = t
  end
  for i = 3, #keys do run('SADD', keys[2], keys[i]) end
  for _, w in ipairs(writes) do run(w[1], keys[w[2]], unpack(w, 3)) end
  run('SET', keys[1], args[2])
  return { 'ok', args[2] }
end)

-- Makes a version of a projection the one that is read.
-- Invariant: the active version only grows, and at the moment of the swap the new one holds
-- everything that the old one held of the streams that it reads: no reader sees less than before.

-- keys: pointer, own position, position of the version that is active. args: version, active version
-- or '', its position or '', the head of the own streams read after that position.
register('@LIB@_activate', function(keys, args)
  local version, active = tonumber(args[1]), run('GET', keys[1]) or ''
  if active ~= '' and tonumber(active) >= version then return { 'ok' } end
  if active ~= args[2] then return { 'changed' } end
  if active ~= '' then
    local own, theirs = run('GET', keys[2]) or '0-0', run('GET', keys[3]) or ''
    local reached = not find(theirs, '-', 1, true) or reaches(own, theirs)
    if not reached and not (theirs == args[3] and reaches(own, args[4])) then return { 'behind' } end
  end
  run('SET', keys[1], args[1])
  return { 'ok' }
end)

-- Removes keys of a version of a projection.
-- Invariant: never of the version that is read, nor of one that a program keeps up to date; from
-- the first step to the last the position says so, so that none begins to build on what is left.

-- keys: pointer, alive, position, the list of keys, then those to remove. args: version.
register('@LIB@_unproject', function(keys, args)
  if run('GET', keys[1]) == args[1] then return { 'active' } end
  if run('GET', keys[3]) ~= 'removing' then
    if run('EXISTS', keys[2]) == 1 then return { 'alive' } end
    run('SET', keys[3], 'removing')
  end
  for i = 5, #keys do
    run('UNLINK', keys[i])
    run('SREM', keys[4], keys[i])
  end
  if run('SCARD', keys[4]) > 0 or #keys > 4 then return { 'more' } end
  run('DEL', keys[3], keys[4])
  return { 'done' }
end)
