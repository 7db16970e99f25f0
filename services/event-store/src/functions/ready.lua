-- Which of these events may be handled now?
-- Invariant: 'go' is answered only when the group has finished every earlier event of each of the
-- event's ordering keys; positions only grow, so the answer stays true after it was given.
-- 'behind': an earlier event of one of its keys is a dead letter, so this one queues behind it.

-- keys: positions, parked. args: JSON list of {id, stream, keys, before = list of {key, stream, id}}
redis.register_function{function_name = '@LIB@_ready', flags = {'no-writes'}, callback = function(keys, args)
  local answers = {}
  for i, e in ipairs(cjson.decode(args[1])) do
    local answer = 'go'
    local finished = #e.keys > 0
    for _, key in ipairs(e.keys) do
      if finished and not reaches(redis.call('HGET', keys[1], key .. ' ' .. e.stream), e.id) then finished = false end
    end
    if finished then
      answer = 'already'
    else
      for _, b in ipairs(e.before) do
        if answer == 'go' and not reaches(redis.call('HGET', keys[1], b[1] .. ' ' .. b[2]), b[3]) then answer = 'wait' end
      end
      for _, key in ipairs(e.keys) do
        local first = redis.call('ZRANGEBYLEX', keys[2], '[' .. key .. '\0', '(' .. key .. '\0' .. padded(e.id), 'LIMIT', 0, 1)
        if #first > 0 then answer = 'behind' end
      end
    end
    answers[i] = answer
  end
  return answers
end}
