-- Moves an entry of a group to the group's dead letters, and back.
-- Invariant: an entry is either pending in its group or one dead letter, never both and never
-- neither; parking twice is parking once. All its fields are kept byte for byte.

-- keys: stream, dead letters, parked. args: group, consumer, id, stream's name, JSON of the
-- ordering keys, reason, attempts, for how long it has been failing (ms).
redis.register_function('@LIB@_park', function(keys, args)
  local group, consumer, id, name = args[1], args[2], args[3], args[4]
  local holder = owner(keys[1], group, id)
  if holder ~= consumer then return { 'fenced', holder or '' } end
  local ordering = cjson.decode(args[5])
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local entry = {
    'stream', name, 'id', id, 'reason', args[6], 'attempts', args[7], 
    'first_failure', string.format('%.0f', now - tonumber(args[8])), 'last_failure', string.format('%.0f', now),
    'keys', args[5],
  }
  local found = redis.call('XRANGE', keys[1], id, id)
  if #found == 1 then
    for i = 1, #found[1][2], 2 do
      entry[#entry + 1] = 'raw.' .. found[1][2][i]
      entry[#entry + 1] = found[1][2][i + 1]
    end
  end
  redis.call('XADD', keys[2], '*', unpack(entry))
  for _, key in ipairs(ordering) do redis.call('ZADD', keys[3], 0, key .. '\0' .. padded(id)) end
  redis.call('XACK', keys[1], group, id)
  return { 'ok' }
end)

-- Gives dead letters back to their group: pending again, and so old that the next consumer that
-- looks for entries of the dead claims them. All of a call move in one step, so that no later
-- event of an entity can come between them.
-- keys: dead letters, parked, then the streams. args: group, JSON list of
-- {letter, stream = key's index, id, keys} in the order of their ids.
redis.register_function('@LIB@_unpark', function(keys, args)
  local moved = 0
  for _, l in ipairs(cjson.decode(args[2])) do
    if redis.call('XDEL', keys[1], l.letter) == 1 then
      for _, key in ipairs(l.keys) do redis.call('ZREM', keys[2], key .. '\0' .. padded(l.id)) end
      redis.call('XCLAIM', keys[l.stream], args[1], 'replay', 0, l.id, 'IDLE', 86400000, 'FORCE', 'JUSTID')
      moved = moved + 1
    end
  end
  return { 'ok', moved }
end)
