-- Appends batches of events.
-- Invariant: either every event of a batch is in the log and in its entity's cache, or nothing of it
-- was written. Lua does not roll back, so everything that can fail is checked before the first
-- write; what follows the line 'from here on nothing may fail' uses keys of proven types only.
-- A refused batch leaves its neighbours of the same call alone.

-- What one call of a function works on: the ids it issues, and what it has learnt of the keys.
local function open_call(clock, window)
  local time = run('TIME')
  local call = {
    clock = clock, types = {}, streams = {}, records = {}, fields = {}, listed = {}, buckets = {}, at = {}, events = 0,
    now_ms = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000), now_seq = tonumber(time[2]) % 1000,
  }
  local ms, seq = match(run('GET', clock) or '0-0', '^(%d+)%-(%d+)$')
  call.ms, call.seq = tonumber(ms), tonumber(seq)
  -- Event ids are remembered by the log's own time, which never steps back.
  window = tonumber(window)
  local generation = floor(max(call.now_ms, call.ms) / window)
  call.digit, call.before = format('%d', generation % 4), format('%d', (generation + 3) % 4)
  call.forget_at = format('%.0f', (generation + 2) * window)
  return call
end

-- Never at or below the last one, whatever the server's clock says. A sequence is a count of microseconds, also while the
-- clock is behind: so readers may take an id for one number.
local function next_id(call)
  if call.now_ms > call.ms or (call.now_ms == call.ms and call.now_seq > call.seq) then
    call.ms, call.seq, call.ms_text = call.now_ms, call.now_seq, nil
  elseif call.seq < 999 then
    call.seq = call.seq + 1
  else
    call.ms, call.seq, call.ms_text = call.ms + 1, 0, nil
  end
  call.issued, call.ms_text = true, call.ms_text or format('%.0f-', call.ms)
  return call.ms_text .. text_of_number(call.seq)
end

-- Moves the clock behind what a stream has had; false when its ids leave no room.
local function catch_up(call, stream)
  local info = run('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, seq = match(info[i + 1], '^(%d+)%-(%d+)$')
      if #ms > 15 or #seq > 15 then return false end
      ms, seq = tonumber(ms), tonumber(seq)
      if ms > call.ms or (ms == call.ms and seq > call.seq) then call.ms, call.seq, call.ms_text = ms, seq, nil end
    end
  end
  return true
end

-- Why the stream cannot be appended to, if so. An entry beyond the last id issued was written by another program,
-- or the clock was lost: then the clock goes on behind it.
local function refuses(call, stream)
  local from = format('(%.0f-%.0f', call.ms, call.seq)
  local newer = try('XRANGE', stream, from, '+', 'COUNT', 1)
  if newer.err then return 'wrongtype' end
  if #newer > 0 and not catch_up(call, stream) then return 'exhausted' end
  call.streams[stream] = true
end

-- The record of an ordering key, '<version><state>[@<last>] <stream>=<id> …': the last event of each
-- stream on that key, the newest first. State: l live, r removed, - no entity. `last` is the entity's own
-- last event where that is not the first of them.
local function parsed(text)
  local version, state, last, chain = '0', '-', '', ''
  if text then
    version, state, last, chain = match(text, '^(%d+)([lr-])(%S*)(.*)$')
    if not version then return nil end
  end
  -- With room for all that is ever noted of it.
  return { version = tonumber(version), state = state, last = last, chain = chain, listed = state == 'l',
    plan = false, planned = false, live = false, moved = false }
end

-- The record as it is kept.
local function text_of(r)
  return text_of_number(r.version) .. r.state .. r.last .. r.chain
end

-- Nothing when the key holds something else.
local function record_of(records, key)
  local r = records[key]
  if r then return r end
  local text = try('GET', key)
  if type(text) == 'table' then return nil end
  r = parsed(text)
  records[key] = r
  return r
end

-- The records of a whole call with one question. To that a key of another type is as one that is
-- not there: where it is not clear which, record_of asks for each by itself.
local function fetch_records(records, keys, from, to)
  for i = from, to, CHUNK do
    local last, missing = min(i + CHUNK - 1, to), {}
    local texts = run('MGET', unpack(keys, i, last))
    for j = i, last do
      local text = texts[j - i + 1]
      if text then records[keys[j]] = parsed(text) else missing[#missing + 1] = keys[j] end
    end
    if #missing > 0 and run('EXISTS', unpack(missing)) == 0 then
      for _, key in ipairs(missing) do records[key] = parsed(false) end
    end
  end
end

local link_of = once(function(name) return ' ' .. name .. '=' end)

local function moved_on(chain, name, id)
  local link = link_of(name)
  local from = find(chain, link, 1, true)
  if from then
    local to = find(chain, ' ', from + 1, true)
    chain = sub(chain, 1, from - 1) .. (to and sub(chain, to) or '')
  end
  return link .. id .. chain
end

-- An event on a further key of the entity of another.
local function move_other(other, name, id)
  if other.last == '' and other.version > 0 then other.last = '@' .. match(other.chain, '^ (%S+)') end
  other.chain, other.moved = moved_on(other.chain, name, id), true
end

-- Event ids are remembered in buckets, as numbers with the generation as their last digit; the digit
-- alone stands for 'older generations were forgotten'. At its first use in a generation they are.
local function forget(call, bucket)
  local old = {}
  for _, member in ipairs(run('SMEMBERS', bucket)) do
    local digit = sub(member, -1)
    if digit ~= call.before and digit ~= call.digit then old[#old + 1] = member end
  end
  in_chunks('SREM', bucket, old, 1, #old)
  run('PEXPIREAT', bucket, call.forget_at)
end

-- Asks which of these numbers the bucket knows.
local function ask(call, key, bucket)
  local members, numbers = { call.digit }, bucket.numbers
  for i, number in ipairs(numbers) do
    members[2 * i], members[2 * i + 1] = number .. call.digit, number .. call.before
  end
  for from = 1, #members, CHUNK do
    local seen = try('SMISMEMBER', key, unpack(members, from, min(from + CHUNK - 1, #members)))
    if seen.err then
      bucket.wrong = true
      return
    end
    for i, is_known in ipairs(seen) do
      if is_known == 1 then
        local member = from + i - 1
        if member == 1 then bucket.swept = true else bucket.known[numbers[floor(member / 2)]] = true end
      end
    end
  end
end

-- How an event is laid out, from the cursors k, a and r on:
-- keys: stream, bucket of event ids, those of the cache. records: the key's, further keys'….
-- args: its form, stream's name on the key, event id, its number in the bucket, expected (* any, 0 none,
-- + exists, n exactly), entity, per further key its text and the stream's name on it, names and values
-- of further fields, those of the cache.
-- The form is '<number of further keys> <number of further fields> <schema>'.
local form_of = once(function(word)
  local others, fields, schema = match(word, '^(%d+) (%d+) (%d+)$')
  local form = { others = tonumber(others), fields = tonumber(fields), schema = schema }
  form.tail = 6 + 2 * form.others
  form.cache = form.tail + form.fields
  return form
end)

-- Finds where the events of a batch stand, four things each in call.at: key, arg, record, form. The batch:
-- number of events, of keys, of args (these four included) and of records, then the events. Answers the
-- batch's plan, its first and last event in the call, and the cursors behind it.
local function places(call, keys, k, args, a, r)
  local count, at, buckets, n = tonumber(args[a]), call.at, call.buckets, 4 * call.events
  local plan = { call.events + 1, call.events + count }
  local behind_k, behind_a, behind_r = k + tonumber(args[a + 1]), a + tonumber(args[a + 2]), r + tonumber(args[a + 3])
  call.events, a = plan[2], a + 4
  for i = 1, count do
    local form, key = form_of(args[a]), keys[k + 1]
    at[n + 1], at[n + 2], at[n + 3], at[n + 4], n = k, a, r, form, n + 4
    local bucket = buckets[key]
    if not bucket then
      bucket = { numbers = {}, known = {}, new = {} }
      buckets[key] = bucket
    end
    local numbers = bucket.numbers
    numbers[#numbers + 1] = args[a + 3]
    if i < count then
      local ca = a + form.cache
      k, a, r = k + 2 + shape_of(args[ca]).keys, behind_cache(args, ca), r + 1 + form.others
    end
  end
  return plan, behind_k, behind_a, behind_r
end

-- Learns what the batches of the call will ask, with few questions; their records stand together.
local function prepare(call, keys, first_record, last_record)
  fetch_records(call.records, keys, first_record, last_record)
  for key, bucket in pairs(call.buckets) do ask(call, key, bucket) end
end

-- An answer when an event cannot go into its stream, or when its id was used before.
local function refuse_ids(call, keys, args, plan)
  local at, first, last = call.at, plan[1], plan[2]
  local known, first_known, ids = 0, nil, first < last and {}
  for n = first, last do
    local k, a = at[4 * n - 3], at[4 * n - 2]
    if not call.streams[keys[k]] then
      local why = refuses(call, keys[k])
      if why then return { why, n - first + 1, keys[k] } end
    end
    local bucket = call.buckets[keys[k + 1]]
    if bucket.wrong then return { 'wrongtype', n - first + 1, keys[k + 1] } end
    if ids then
      local event_id = args[a + 2]
      if ids[event_id] then return { 'duplicate', n - first + 1 } end
      ids[event_id] = true
    end
    if bucket.known[args[a + 3]] then
      known, first_known = known + 1, first_known or n - first + 1
    end
  end
  if known == 0 then return nil end
  if known <= last - first then return { 'duplicate', first_known } end
  call.issued = true -- a write, so that a WAIT behind this call waits for what was appended before
  return { 'known' }
end

-- Where the record stands after the events of this batch that come before; a batch that is refused
-- leaves no trace of that.
local function plan_on(plan, r)
  if r.plan ~= plan then r.plan, r.planned, r.live = plan, r.version, r.state == 'l' end
end

local function accepts(expected, r)
  return expected == '*' or (expected == '+' and r.live) or tonumber(expected) == r.planned
end

-- An answer when an event cannot be appended to what its entity is now.
local function refuse_state(call, keys, args, plan)
  local records, at = call.records, call.at
  for n = plan[1], plan[2] do
    local k, a, first, form = at[4 * n - 3], at[4 * n - 2], at[4 * n - 1], at[4 * n]
    for j = first, first + form.others do
      if not records[keys[j]] and not record_of(records, keys[j]) then
        return { 'wrongtype', n - plan[1] + 1, keys[j] }
      end
    end
    local r, ca = records[keys[first]], a + form.cache
    plan_on(plan, r)
    if not accepts(args[a + 4], r) then
      return { 'conflict', n - plan[1] + 1, text_of_number(r.planned), (r.planned > 0 and not r.live) and 1 or 0 }
    end
    local shape = shape_of(args[ca])
    r.planned, r.live = r.planned + 1, not shape.removed
    if shape.shown and not call.fields[keys[k + 3]] then
      local wrong, fields = check_cache(call.types, keys, k + 2, args, ca)
      if wrong then return { 'wrongtype', n - plan[1] + 1, wrong } end
      call.fields[keys[k + 3]] = fields
    end
  end
end

local function add_entry(stream, id, version, after, args, a, form)
  local tail = a + form.tail
  if after == '' then
    return try('XADD', stream, id, 'event_id', args[a + 2], 'entity', args[a + 5], 'version', version,
      'schema', form.schema, unpack(args, tail, tail + form.fields - 1))
  end
  return try('XADD', stream, id, 'event_id', args[a + 2], 'entity', args[a + 5], 'version', version,
    'schema', form.schema, 'after', after, unpack(args, tail, tail + form.fields - 1))
end

-- The entity's cache, as its last event of the batch leaves it.
local function show(call, keys, k, args, a, r)
  local ids, hash, id = keys[k], keys[k + 1], args[a + 1]
  local listed = call.listed[ids]
  if not listed then
    listed = {}
    call.listed[ids] = listed
  end
  if shape_of(args[a]).removed then
    listed[id], r.listed = nil, false
    run('SREM', ids, id)
  elseif not r.listed then
    listed[id], r.listed = true, true
  end
  call.fields[hash] = write_entity(keys, k, args, a, call.fields[hash])
end

local function write(call, keys, args, k, a, first, form)
  local records = call.records
  local r, stream, shape = records[keys[first]], keys[k], shape_of(args[a + form.cache])
  local after = sub(r.chain, 2)
  for j = 1, form.others do
    after = after .. '\n' .. args[a + 4 + 2 * j] .. '\t' .. sub(records[keys[first + j]].chain, 2)
  end
  local id, version = next_id(call), text_of_number(r.version + 1)
  if type(add_entry(stream, id, version, after, args, a, form)) == 'table' then
    -- The stream's newest entries were deleted, so that only it knows how far its ids have come.
    catch_up(call, stream)
    id = next_id(call)
    add_entry(stream, id, version, after, args, a, form)
  end
  for j = 1, form.others do move_other(records[keys[first + j]], args[a + 5 + 2 * j], id) end
  if shape.shown then show(call, keys, k + 2, args, a + form.cache, r) end
  r.version, r.last, r.chain, r.moved = r.version + 1, '', moved_on(r.chain, args[a + 1], id), true
  r.state = shape.removed and 'r' or 'l'
  local bucket, number = call.buckets[keys[k + 1]], args[a + 3]
  bucket.new[#bucket.new + 1], bucket.known[number] = number .. call.digit, true
  return id, version
end

-- Appends a batch that `places` has found and `prepare` knows of. Answers its refusal, or nothing and the ids
-- and versions.
local function append_batch(call, keys, args, plan)
  local refusal = refuse_ids(call, keys, args, plan) or refuse_state(call, keys, args, plan)
  if refusal then return refusal end
  local at, answer, count = call.at, {}, 0
  -- from here on nothing may fail
  for n = plan[1], plan[2] do
    answer[count + 1], answer[count + 2] = write(call, keys, args, at[4 * n - 3], at[4 * n - 2], at[4 * n - 1], at[4 * n])
    count = count + 2
  end
  return nil, answer
end

-- Writes what the batches of the call have in common.
local function close_call(call)
  local moved, count = {}, 0
  for key, r in pairs(call.records) do
    if r.moved then
      moved[count + 1], moved[count + 2], count = key, text_of(r), count + 2
    end
  end
  for i = 1, count, CHUNK do run('MSET', unpack(moved, i, min(i + CHUNK - 1, count))) end
  for ids, members in pairs(call.listed) do
    local list = {}
    for id in pairs(members) do list[#list + 1] = id end
    in_chunks('SADD', ids, list, 1, #list)
  end
  for key, bucket in pairs(call.buckets) do
    local new = bucket.new
    if #new > 0 then
      if not bucket.swept then
        new[#new + 1] = call.digit
        in_chunks('SADD', key, new, 1, #new)
        forget(call, key)
      else
        in_chunks('SADD', key, new, 1, #new)
      end
    end
  end
  if call.issued then run('SET', call.clock, format('%.0f-%.0f', call.ms, call.seq)) end
end

-- keys: clock, the records of all batches, then their other keys. args: number of batches, for how many
-- ms an event id is remembered, number of records, the batches. Answers a line of words for each.
register('@LIB@_append', function(keys, args)
  local call, records, count = open_call(keys[1], args[2]), tonumber(args[3]), tonumber(args[1])
  local plans, k, a, r = {}, 2 + records, 4, 2
  for i = 1, count do plans[i], k, a, r = places(call, keys, k, args, a, r) end
  prepare(call, keys, 2, 1 + records)
  local answers = {}
  for i = 1, count do
    local refusal, appended = append_batch(call, keys, args, plans[i])
    answers[i] = refusal and concat(refusal, ' ') or 'ok ' .. concat(appended, ' ')
  end
  close_call(call)
  return answers
end)
