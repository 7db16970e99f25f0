-- Appends batches of events.
-- Invariant: either every event of a batch is in the log and in its entity's cache, or nothing of it
-- was written. Lua does not roll back, so everything that can fail is checked before the first
-- write; what follows the line 'from here on nothing may fail' uses keys of proven types only.
-- A refused batch leaves its neighbours of the same call alone.

-- What one call of a function issues ids from: the last id issued and the server's time.
local function open_call(clock, window)
  local time = redis.call('TIME')
  local call = {
    clock = clock, types = {}, streams = {}, swept = {},
    now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), now_seq = tonumber(time[2]) % 1000,
  }
  local ms, seq = string.match(redis.call('GET', clock) or '0-0', '^(%d+)%-(%d+)$')
  call.ms, call.seq = tonumber(ms), tonumber(seq)
  -- Event ids are remembered by the log's own time, which never steps back.
  window = tonumber(window)
  local generation = math.floor(math.max(call.now_ms, call.ms) / window)
  call.digit, call.before = string.format('%d', generation % 4), string.format('%d', (generation + 3) % 4)
  call.forget_at = string.format('%.0f', (generation + 2) * window)
  return call
end

local function close_call(call)
  if call.issued then redis.call('SET', call.clock, string.format('%.0f-%.0f', call.ms, call.seq)) end
end

-- Never at or below the last one, whatever the server's clock says.
local function next_id(call)
  if call.now_ms > call.ms or (call.now_ms == call.ms and call.now_seq > call.seq) then
    call.ms, call.seq = call.now_ms, call.now_seq
  else
    call.seq = call.seq + 1
  end
  call.issued = true
  return string.format('%.0f-%.0f', call.ms, call.seq)
end

-- Moves the clock behind what a stream has had; false when its ids leave no room.
local function catch_up(call, stream)
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, seq = string.match(info[i + 1], '^(%d+)%-(%d+)$')
      if #ms > 15 or #seq > 15 then return false end
      ms, seq = tonumber(ms), tonumber(seq)
      if ms > call.ms or (ms == call.ms and seq > call.seq) then call.ms, call.seq = ms, seq end
    end
  end
  return true
end

-- May the stream be appended to? An entry beyond the last id issued was written by another program,
-- or the clock was lost: then the clock goes on behind it.
local function refuses(call, stream)
  if call.streams[stream] then return nil end
  local from = string.format('(%.0f-%.0f', call.ms, call.seq)
  local newer = redis.pcall('XRANGE', stream, from, '+', 'COUNT', 1)
  if newer.err then return 'wrongtype' end
  if #newer > 0 and not catch_up(call, stream) then return 'exhausted' end
  call.streams[stream] = true
end

-- The record of an ordering key, '<version><state>[@<last>] <stream>=<id> …': the last event of each
-- stream on that key, the newest first. State: l live, r removed, - no entity. `last` is the entity's own
-- last event where that is not the first of them.
local function record_of(records, key)
  local r = records[key]
  if r then return r end
  local text = redis.pcall('GET', key)
  if text == false then
    r = { version = 0, state = '-', last = '', chain = '' }
  elseif type(text) == 'table' then
    return nil
  else
    local version, state, last, chain = string.match(text, '^(%d+)([lr-])(%S*)(.*)$')
    if not version then return nil end
    r = { version = tonumber(version), state = state, last = last, chain = chain }
  end
  r.planned, r.live = r.version, r.state == 'l'
  records[key] = r
  return r
end

local function moved_on(chain, name, id)
  local from = string.find(chain, ' ' .. name .. '=', 1, true)
  if from then
    local to = string.find(chain, ' ', from + 1, true)
    chain = string.sub(chain, 1, from - 1) .. (to and string.sub(chain, to) or '')
  end
  return ' ' .. name .. '=' .. id .. chain
end

-- The event ids of a bucket are numbers with the generation as their last digit; the digit alone
-- stands for 'older generations were forgotten'. At its first use in a generation they are.
local function forget(call, bucket)
  local old = {}
  for _, member in ipairs(redis.call('SMEMBERS', bucket)) do
    if string.sub(member, -1) ~= call.before then old[#old + 1] = member end
  end
  in_chunks('SREM', bucket, old, 1, #old)
  redis.call('SADD', bucket, call.digit)
  redis.call('PEXPIREAT', bucket, call.forget_at)
  call.swept[bucket] = true
end

-- How an event is laid out, from the cursors k and a on:
-- keys: stream, bucket of event ids, the key's record, further keys' records…, those of the cache.
-- args: number of further keys, stream's name on the key, event id, its number in the bucket, expected
-- (* any, 0 none, + exists, n exactly), number of further fields, entity, schema, per further key its
-- text and the stream's name on it, names and values of further fields, those of the cache.
local function place_of(args, k, a)
  local others, fields = tonumber(args[a]), tonumber(args[a + 5])
  return { k = k, a = a, others = others, tail = a + 8 + 2 * others, fields = fields,
    cache_k = k + 3 + others, cache_a = a + 8 + 2 * others + fields }
end

local function accepts(expected, r)
  return expected == '*' or (expected == '0' and r.planned == 0) or (expected == '+' and r.live)
    or tonumber(expected) == r.planned
end

-- The events' places and the records that they move; nil and an answer when the batch is refused.
local function check(call, keys, k, args, a, count)
  local plan, records, hashes, batch_ids, known, first_known = {}, {}, {}, {}, 0, nil
  for i = 1, count do
    local e = place_of(args, k, a)
    local stream, bucket, event_id, number = keys[k], keys[k + 1], args[a + 2], args[a + 3]
    local why = refuses(call, stream)
    if why then return nil, { why, i, stream } end
    if batch_ids[event_id] then return nil, { 'duplicate', i } end
    batch_ids[event_id] = true
    local seen = redis.pcall('SMISMEMBER', bucket, call.digit, number .. call.digit, number .. call.before)
    if seen.err then return nil, { 'wrongtype', i, bucket } end
    if seen[1] == 1 then call.swept[bucket] = true end
    if seen[2] == 1 or seen[3] == 1 then
      known = known + 1
      first_known = first_known or i
    end
    plan[i] = e
    local ck, ca = e.cache_k, e.cache_a
    k, a = ck + 2 + tonumber(args[ca + 3]) + tonumber(args[ca + 4]), behind_cache(args, ca)
  end
  if known > 0 and known == count then
    call.issued = true -- a write, so that a WAIT behind this call waits for what was appended before
    return nil, { 'known' }
  end
  if known > 0 then return nil, { 'duplicate', first_known } end
  for i, e in ipairs(plan) do
    for j = e.k + 2, e.k + 2 + e.others do
      if not record_of(records, keys[j]) then return nil, { 'wrongtype', i, keys[j] } end
    end
    local r = records[keys[e.k + 2]]
    if not accepts(args[e.a + 4], r) then
      return nil, { 'conflict', i, string.format('%.0f', r.planned), (r.planned > 0 and not r.live) and 1 or 0 }
    end
    r.planned, r.live = r.planned + 1, args[e.cache_a + 1] == '0'
    local hash = keys[e.cache_k + 1]
    if not hashes[hash] then
      local wrong, fields = check_cache(call.types, keys, e.cache_k, args, e.cache_a)
      if wrong then return nil, { 'wrongtype', i, wrong } end
      hashes[hash] = fields
    end
  end
  return plan, records, hashes
end

local function add_entry(stream, id, version, after, args, e)
  local a, tail = e.a, e.tail
  if after == '' then
    return redis.pcall('XADD', stream, id, 'event_id', args[a + 2], 'entity', args[a + 6], 'version', version,
      'schema', args[a + 7], unpack(args, tail, tail + e.fields - 1))
  end
  return redis.pcall('XADD', stream, id, 'event_id', args[a + 2], 'entity', args[a + 6], 'version', version,
    'schema', args[a + 7], 'after', after, unpack(args, tail, tail + e.fields - 1))
end

local function write(call, keys, args, e, records, hashes)
  local k, a = e.k, e.a
  local r, stream, bucket, hash = records[keys[k + 2]], keys[k], keys[k + 1], keys[e.cache_k + 1]
  local after = string.sub(r.chain, 2)
  for j = 1, e.others do
    after = after .. '\n' .. args[a + 6 + 2 * j] .. '\t' .. string.sub(records[keys[k + 2 + j]].chain, 2)
  end
  local id, version = next_id(call), r.version + 1
  if type(add_entry(stream, id, version, after, args, e)) == 'table' then
    -- The stream's newest entries were deleted, so that only it knows how far its ids have come.
    catch_up(call, stream)
    id = next_id(call)
    add_entry(stream, id, version, after, args, e)
  end
  for j = 1, e.others do
    local other = records[keys[k + 2 + j]]
    if other.last == '' and other.version > 0 then other.last = '@' .. string.match(other.chain, '^ (%S+)') end
    other.chain = moved_on(other.chain, args[a + 7 + 2 * j], id)
  end
  if not call.swept[bucket] then forget(call, bucket) end
  redis.call('SADD', bucket, args[a + 3] .. call.digit)
  hashes[hash] = write_cache(keys, e.cache_k, args, e.cache_a, hashes[hash], r.state == 'l')
  r.version, r.last, r.chain = version, '', moved_on(r.chain, args[a + 1], id)
  r.state = args[e.cache_a + 1] == '1' and 'r' or 'l'
  return id, version
end

-- Appends the batch at the cursors: number of events, of keys and of args (these three included), then
-- the events. Answers what happened and the cursors behind the batch.
local function append_batch(call, keys, k, args, a)
  local count = tonumber(args[a])
  local behind_k, behind_a = k + tonumber(args[a + 1]), a + tonumber(args[a + 2])
  local plan, records, hashes = check(call, keys, k, args, a + 3, count)
  if not plan then return records, behind_k, behind_a end
  local answer = { 'ok' }
  -- from here on nothing may fail
  for i, e in ipairs(plan) do
    answer[2 * i], answer[2 * i + 1] = write(call, keys, args, e, records, hashes)
  end
  for key, r in pairs(records) do
    redis.call('SET', key, string.format('%.0f', r.version) .. r.state .. r.last .. r.chain)
  end
  return answer, behind_k, behind_a
end

-- keys: clock, then those of the batches. args: number of batches, for how many ms an event id is
-- remembered, the batches. Answers a line of words for each.
redis.register_function('@LIB@_append', function(keys, args)
  local call = open_call(keys[1], args[2])
  local answers, k, a = {}, 2, 3
  for i = 1, tonumber(args[1]) do
    local answer
    answer, k, a = append_batch(call, keys, k, args, a)
    answers[i] = table.concat(answer, ' ')
  end
  close_call(call)
  return answers
end)
