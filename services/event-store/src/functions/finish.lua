-- Finishes one event of a group: its outputs are appended, the positions of its ordering keys are
-- moved and the entry is acknowledged.
-- Invariant: the outputs of an event are appended at most once per group, and only by the consumer
-- that the entry is pending for. Who lost the entry to another consumer is refused (fenced).

-- keys: stream, positions, then those of the append. args: group, consumer, id, stream's name,
-- JSON of the ordering keys, JSON of the append or ''.
redis.register_function('@LIB@_finish', function(keys, args)
  local group, consumer, id, name = args[1], args[2], args[3], args[4]
  local ordering = cjson.decode(args[5])
  local finished = #ordering > 0
  for _, key in ipairs(ordering) do
    if not reaches(redis.call('HGET', keys[2], key .. ' ' .. name), id) then finished = false end
  end
  local holder = owner(keys[1], group, id)
  if finished then
    if holder == consumer then redis.call('XACK', keys[1], group, id) end
    return { 'already' }
  end
  if holder ~= consumer then return { 'fenced', holder or '' } end
  if args[6] ~= '' then
    local answer = append_batch(keys, cjson.decode(args[6]))
    if answer[1] ~= 'ok' and answer[1] ~= 'known' then return answer end
  end
  for _, key in ipairs(ordering) do redis.call('HSET', keys[2], key .. ' ' .. name, id) end
  redis.call('XACK', keys[1], group, id)
  return { 'ok' }
end)
