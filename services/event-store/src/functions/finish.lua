-- Finishes events of a group: the outputs of each are appended, the positions of its ordering keys
-- are moved and its entry is acknowledged.
-- Invariants: the outputs of an event are appended at most once per group, in one step with its
-- position and its acknowledgement, and only by the consumer that the entry is pending for. Who lost
-- the entry to another consumer is refused (fenced). Events that are finished together do not know
-- of each other: one that is refused changes nothing for its neighbours. Positions only grow.

-- keys: positions, clock, the streams, then those of the appends. args: group, consumer, dedup window (ms),
-- number of streams, then for each event, in the order of ids: index of its stream's key, id, are there
-- outputs (1 or 0), number of positions, the positions' fields, the batch of its outputs. Answers one
-- word for each event, or the append's refusal as a list.
redis.register_function('@LIB@_finish', function(keys, args)
  local group, consumer = args[1], args[2]
  local events, fields, by_stream = {}, {}, {}
  local at, next_key, call = 5, 3 + tonumber(args[4]), nil
  while at <= #args do
    local e = { stream = tonumber(args[at]), id = args[at + 1], fields = {} }
    local has_outputs = args[at + 2] == '1'
    local count = tonumber(args[at + 3])
    for i = 1, count do
      e.fields[i] = args[at + 3 + i]
      fields[#fields + 1] = e.fields[i]
    end
    at = at + 4 + count
    if has_outputs then
      e.k, e.a = next_key, at
      next_key, at = next_key + tonumber(args[at + 1]), at + tonumber(args[at + 2])
    end
    events[#events + 1] = e
    local ids = by_stream[e.stream] or {}
    ids[#ids + 1] = e.id
    by_stream[e.stream] = ids
  end
  local positions, mine = values_of(keys[1], fields), {}
  for stream, ids in pairs(by_stream) do mine[stream] = held(keys[stream], group, consumer, ids) end

  -- What has no outputs is written at the end, all of it with one command each.
  local moves, acks = {}, {}
  local function move(field, id, into)
    if not reaches(positions[field], id) then
      positions[field] = id
      into[#into + 1] = field
      into[#into + 1] = id
    end
  end
  local function finish(e)
    local finished = #e.fields > 0
    for _, field in ipairs(e.fields) do
      if not reaches(positions[field], e.id) then finished = false end
    end
    local holds = mine[e.stream][e.id]
    if not holds and not finished then return 'fenced' end
    if e.a and not finished then
      call = call or open_call(keys[2], args[3])
      local done, answer = pcall(append_batch, call, keys, e.k, args, e.a)
      if not done then return { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
      if answer[1] ~= 'ok' and answer[1] ~= 'known' then return answer end
      local now = {}
      for _, field in ipairs(e.fields) do move(field, e.id, now) end
      if #now > 0 then redis.call('HSET', keys[1], unpack(now)) end
      redis.call('XACK', keys[e.stream], group, e.id)
      return 'ok'
    end
    for _, field in ipairs(e.fields) do move(field, e.id, moves) end
    if holds then
      local ids = acks[e.stream] or {}
      ids[#ids + 1] = e.id
      acks[e.stream] = ids
    end
    return finished and 'already' or 'ok'
  end

  local answers = {}
  for i, e in ipairs(events) do answers[i] = finish(e) end
  if call then close_call(call) end
  for from = 1, #moves, PART do redis.call('HSET', keys[1], unpack(moves, from, math.min(from + PART - 1, #moves))) end
  for stream, ids in pairs(acks) do
    for from = 1, #ids, PART do redis.call('XACK', keys[stream], group, unpack(ids, from, math.min(from + PART - 1, #ids))) end
  end
  return answers
end)
