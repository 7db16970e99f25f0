-- Finishes events of a group: the outputs of each are appended, the positions of its ordering keys
-- are moved and its entry is acknowledged.
-- Invariants: the outputs of an event are appended at most once per group, in one step with its
-- position and its acknowledgement, and only by the consumer that the entry is pending for. Who lost
-- the entry to another consumer is refused (fenced). Events that are finished together do not know
-- of each other: one that is refused changes nothing for its neighbours. Positions only grow.

-- '<index of its stream's key> <outputs> <number of positions>' of an event. Outputs: 0 none, 1 with ids that follow from
-- the event, 2 with ids of the handler's own.
local finish_form_of = once(function(word)
  local stream, outputs, count = match(word, '^(%d+) ([012]) (%d+)$')
  return { stream = tonumber(stream), outputs = outputs ~= '0', own = outputs == '2', count = tonumber(count) }
end)

-- An answer when the outputs of an event are refused. Those that are known stem from an earlier attempt, if their ids
-- follow from the event; ids of the handler's own may be those of other events.
local function refuse_outputs(call, keys, args, batch, own)
  local done, refusal = pcall(append_batch, call, keys, args, batch)
  if done then return refusal and (own or refusal[1] ~= 'known') and refusal or nil end
  return { 'error', type(refusal) == 'table' and refusal.err or tostring(refusal) }
end

-- keys: positions, clock, settings, the streams, the records of the appends, then their other keys. args: group,
-- consumer, dedup window (ms) where that is not settled, number of streams, number of records, then for each event, in the order
-- of ids: its form, id, the positions' fields, the batch of its outputs. Answers one word for each
-- event, or the append's refusal as a list; just 'ok' when that is the word for all of them.
register('@LIB@_finish', function(keys, args)
  local group, consumer = args[1], args[2]
  local forms, ids, places_of, batches, fields, by_stream = {}, {}, {}, {}, {}, {}
  local first_record, records, call = 4 + tonumber(args[4]), tonumber(args[5]), nil
  local at, next_key, next_record = 6, first_record + records, first_record
  local last, count, asked = #args, 0, 0
  while at <= last do
    local form, id = finish_form_of(args[at]), args[at + 1]
    count, at = count + 1, at + 2
    for i = at, at + form.count - 1 do
      asked = asked + 1
      fields[asked] = args[i]
    end
    at = at + form.count
    if form.outputs then
      call = call or open_call(keys[2], keys[3], args[3])
      batches[count], next_key, at, next_record = places(call, keys, next_key, args, at, next_record)
    end
    local of_stream = by_stream[form.stream]
    if not of_stream then
      of_stream = {}
      by_stream[form.stream] = of_stream
    end
    local place = #of_stream + 1
    forms[count], ids[count], places_of[count], of_stream[place] = form, id, place, id
  end
  if call then prepare(call, keys, first_record, first_record + records - 1) end
  local positions, mine, acks = values_of(keys[1], fields, asked), {}, {}
  for stream, list in pairs(by_stream) do
    mine[stream], acks[stream] = held(keys[stream], group, consumer, list), {}
  end

  local answers, all_ok, moves, moved, behind = {}, true, {}, 0, 0
  for i = 1, count do
    local form, id, before = forms[i], ids[i], moved
    local first = behind + 1
    behind = behind + form.count
    for j = first, behind do
      if not reaches(positions[j], id) then
        moves[moved + 1], moves[moved + 2], moved = fields[j], id, moved + 2
      end
    end
    local holds, finished, refusal = mine[form.stream][places_of[i]], form.count > 0 and moved == before, nil
    if not holds and not finished then
      refusal = 'fenced'
    elseif batches[i] and not finished then
      refusal = refuse_outputs(call, keys, args, batches[i], form.own)
    end
    if refusal then
      moved = before
    elseif holds then
      local of_stream = acks[form.stream]
      of_stream[#of_stream + 1] = id
    end
    answers[i] = refusal or (finished and 'already' or 'ok')
    all_ok = all_ok and answers[i] == 'ok'
  end
  if call then close_call(call) end
  in_chunks('HSET', keys[1], moves, 1, moved)
  for stream, list in pairs(acks) do
    for from = 1, #list, PART do run('XACK', keys[stream], group, unpack(list, from, min(from + PART - 1, #list))) end
  end
  return all_ok and 'ok' or answers
end)
