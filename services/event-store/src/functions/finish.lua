-- Finishes events of a group: the outputs of each are appended, the positions of its ordering keys
-- are moved and its entry is acknowledged.
-- Invariants: the outputs of an event are appended at most once per group, in one step with its
-- position and its acknowledgement, and only by the consumer that the entry is pending for. Who lost
-- the entry to another consumer is refused (fenced). Events that are finished together do not know
-- of each other: one that is refused changes nothing for its neighbours. Positions only grow.

-- '<index of its stream's key> <are there outputs, 1 or 0> <number of positions>' of an event.
local finish_form_of = once(function(word)
  local stream, outputs, count = string.match(word, '^(%d+) ([01]) (%d+)$')
  return { stream = tonumber(stream), outputs = outputs == '1', count = tonumber(count) }
end)

-- keys: positions, clock, the streams, the records of the appends, then their other keys. args: group,
-- consumer, dedup window (ms), number of streams, number of records, then for each event, in the order
-- of ids: its form, id, the positions' fields, the batch of its outputs. Answers one word for each
-- event, or the append's refusal as a list.
redis.register_function('@LIB@_finish', function(keys, args)
  local group, consumer = args[1], args[2]
  local forms, ids, firsts, plans, fields, by_stream = {}, {}, {}, {}, {}, {}
  local first_record, records, call = 3 + tonumber(args[4]), tonumber(args[5]), nil
  local at, next_key, next_record, last, count = 6, first_record + records, first_record, #args, 0
  while at <= last do
    local form, id = finish_form_of(args[at]), args[at + 1]
    count = count + 1
    forms[count], ids[count], firsts[count] = form, id, at + 2
    for i = at + 2, at + 1 + form.count do fields[#fields + 1] = args[i] end
    at = at + 2 + form.count
    if form.outputs then
      call = call or open_call(keys[2], args[3])
      plans[count], next_key, at, next_record = places(call, keys, next_key, args, at, next_record)
    end
    local of_stream = by_stream[form.stream]
    if of_stream then of_stream[#of_stream + 1] = id else by_stream[form.stream] = { id } end
  end
  if call then prepare(call, keys, first_record, first_record + records - 1) end
  local positions, mine = values_of(keys[1], fields), {}
  for stream, list in pairs(by_stream) do mine[stream] = held(keys[stream], group, consumer, list) end

  -- What has no outputs is written at the end, all of it with one command each.
  local answers, moves, acks = {}, {}, {}
  local function finish(i, form, id)
    local first, past, finished = firsts[i], firsts[i] + form.count - 1, form.count > 0
    for j = first, past do finished = finished and reaches(positions[args[j]], id) end
    local holds = mine[form.stream][id]
    if not holds and not finished then return 'fenced' end
    local into = moves
    if plans[i] and not finished then
      local done, answer = pcall(append_batch, call, keys, args, plans[i])
      if not done then return { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
      if answer[1] ~= 'ok' and answer[1] ~= 'known' then return answer end
      into = {}
    end
    for j = first, past do
      if not reaches(positions[args[j]], id) then
        positions[args[j]] = id
        into[#into + 1] = args[j]
        into[#into + 1] = id
      end
    end
    if into ~= moves then
      if #into > 0 then redis.call('HSET', keys[1], unpack(into)) end
      redis.call('XACK', keys[form.stream], group, id)
      return 'ok'
    end
    if holds then
      local of_stream = acks[form.stream]
      if of_stream then of_stream[#of_stream + 1] = id else acks[form.stream] = { id } end
    end
    return finished and 'already' or 'ok'
  end

  for i = 1, count do answers[i] = finish(i, forms[i], ids[i]) end
  if call then close_call(call) end
  for from = 1, #moves, PART do redis.call('HSET', keys[1], unpack(moves, from, math.min(from + PART - 1, #moves))) end
  for stream, list in pairs(acks) do
    for from = 1, #list, PART do redis.call('XACK', keys[stream], group, unpack(list, from, math.min(from + PART - 1, #list))) end
  end
  return answers
end)
