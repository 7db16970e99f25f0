-- Which of these events may be handled now?
-- Invariant: 'go' is answered only to the consumer that the entry is pending for, and only when the
-- group has finished every earlier event of each of the event's ordering keys on all streams that the
-- group's living consumers read; positions only grow, so that part of the answer stays true after it was given.

-- keys: positions, letters, cursors, the streams. args: group, consumer, the names of the streams that the
-- consumer knows the group to read (between spaces), then for each event, in the order of ids: index of its
-- stream's key, its stream's name, id, number of positions, their fields, number of earlier events, and for
-- each of these: position's field, index of its stream's key, id. Where the group reads another stream, too,
-- answers 'streams' and the list of streams; else a word for each event:
--   already  the group has finished it         fenced  it is not this consumer's
--   parked   it is a dead letter itself        behind  an earlier event is one: queue behind it
--   wait     an earlier event is not finished  gap     go: an earlier event was taken out by hand
register('@LIB@_ready', function(keys, args)
  local group, consumer = args[1], args[2]
  local infos, answers, at, now = {}, {}, 4, now_ms()
  local list = streams_of(keys[3], now)
  if reads_others(list, args[3], now) then return add_streams({ 'streams' }, list, now) end
  local function letter(name, id) return run('HEXISTS', keys[2], name .. ' ' .. id) == 1 end
  while at <= #args do
    local stream, name, id = tonumber(args[at]), args[at + 1], args[at + 2]
    local answer, count = 'go', tonumber(args[at + 3])
    local finished = count > 0
    for i = 1, count do
      if finished and not reaches(run('HGET', keys[1], args[at + 3 + i]), id) then finished = false end
    end
    at = at + 4 + count
    local earlier = tonumber(args[at])
    if owner(keys[stream], group, id) ~= consumer then
      answer = 'fenced'
    elseif letter(name, id) then
      answer = 'parked'
    elseif finished then
      answer = 'already'
    else
      for i = 0, earlier - 1 do
        local field, index, before = args[at + 1 + 3 * i], tonumber(args[at + 2 + 3 * i]), args[at + 3 + 3 * i]
        if not reaches(run('HGET', keys[1], field), before) then
          if letter(match(field, '(%S+)$'), before) then
            answer = 'behind'
          elseif answer ~= 'behind' then
            if not infos[index] then infos[index] = info_of(keys[index], group) end
            if not infos[index] or not is_gone(keys[index], group, before, infos[index]) then
              answer = 'wait'
            elseif answer == 'go' then
              answer = 'gap'
            end
          end
        end
      end
    end
    at = at + 1 + 3 * earlier
    answers[#answers + 1] = answer
  end
  return answers
end, { 'no-writes' })
