-- Applies a batch to a projection.
-- Invariant: the position moves with the writes in one step and only from the value that the
-- writes were computed from, so every event is applied exactly once by whichever replica is first.

-- keys: position, then those of the writes. args: expected position, new position, JSON of the
-- writes: lists of {operation, key's index, arguments…}.
redis.register_function('@LIB@_project', function(keys, args)
  local position = redis.call('GET', keys[1]) or '0-0'
  if position ~= args[1] then return { 'behind', position } end
  local writes = cjson.decode(args[3])
  local expected = { HSET = 'hash', HDEL = 'hash', ZADD = 'zset', ZREM = 'zset', SADD = 'set', SREM = 'set' }
  for _, w in ipairs(writes) do
    local t = type_of(keys[w[2]])
    if t ~= 'none' and t ~= expected[w[1]] then return { 'wrongtype', keys[w[2]] } end
  end
  for _, w in ipairs(writes) do redis.call(w[1], keys[w[2]], unpack(w, 3)) end
  redis.call('SET', keys[1], args[2])
  return { 'ok', args[2] }
end)
