-- Appends batches of events.
-- Invariant: either every event of a batch is in the log and in its entity's cache, or nothing of it
-- was written. Lua does not roll back, so everything that can fail is checked before the first
-- write; what follows the line 'from here on nothing may fail' uses keys of proven types only.
-- A refused batch leaves its neighbours of the same call alone.

-- What one call of a function works on: the ids it issues, and what it has learnt of the keys.
local function open_call(clock, settings, window)
  local time = run('TIME')
  local call = {
    clock = clock, types = {}, streams = {}, records = {}, listed = {}, buckets = {}, events = 0,
    now_ms = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000), now_seq = tonumber(time[2]) % 1000,
  }
  local ms, seq = match(run('GET', clock) or '0-0', '^(%d+)%-(%d+)$')
  call.ms, call.seq = tonumber(ms), tonumber(seq)
  local found = run('HMGET', settings, 'dedup_window_ms', 'dedup_rules', 'revision')
  if not found[1] then
    run('HSET', settings, 'dedup_window_ms', window)
    found[1] = window
  end
  -- Event ids are remembered by the log's own time, which never steps back.
  local rules = rules_in(found[1], found[2])
  local generation = generation_at(rules, max(call.now_ms, call.ms))
  call.digit, call.before = format('%d', generation % 4), format('%d', (generation + 3) % 4)
  call.mark = rules.changes > 0 and rules.changes .. call.digit or call.digit
  call.forget_at = format('%.0f', beginning_of_generation(rules, generation + 2))
  call.revision = found[3] or '0'
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

-- What a record begins with, '<version><state>[@<last>]'.
local beginning_of = once(function(word)
  local version, state, last = match(word, '^(%d+)([lr-])(%S*)$')
  return version and { version = tonumber(version), state = state, last = last }
end)

-- The record of an ordering key, '<version><state>[@<last>] <stream>=<id> …': the last event of each
-- stream on that key, the newest first. State: l live, r removed, - no entity. `last` is the entity's own
-- last event where that is not the first of them. A key that has none begins with '0-'.
local function parsed(text)
  local space = find(text, ' ', 1, true)
  local beginning = beginning_of(space and sub(text, 1, space - 1) or text)
  if not beginning then return nil end
  -- With the two of a plan it has eight fields: one more would double the table.
  return { version = beginning.version, state = beginning.state, last = beginning.last,
    chain = space and sub(text, space) or '', moved = false, fields = false }
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
  r = parsed(text or '0-')
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
      for _, key in ipairs(missing) do records[key] = parsed('0-') end
    end
  end
end

-- A stream's link in a chain, ' <name>=', with this id, and behind it the chain without the one that it had.
local function moved_on(chain, link, id)
  local from = find(chain, link, 1, true)
  if not from then return link .. id .. chain end
  local to = find(chain, ' ', from + 1, true)
  local rest = to and sub(chain, to) or ''
  if from == 1 then return link .. id .. rest end
  return link .. id .. sub(chain, 1, from - 1) .. rest
end

-- An event on a further key of the entity of another.
local function move_other(other, link, id)
  if other.last == '' and other.version > 0 then other.last = '@' .. match(other.chain, '^ (%S+)') end
  other.chain, other.moved = moved_on(other.chain, link, id), true
end

-- Event ids are remembered in buckets, as numbers with the generation as their last digit. The generation's mark, the digit
-- behind the number of changes of the window, stands for 'older generations were forgotten'. At its first use in a
-- generation they are.
local function forget(call, bucket)
  local old = {}
  for _, member in ipairs(run('SMEMBERS', bucket)) do
    local digit = sub(member, -1)
    if digit ~= call.before and digit ~= call.digit then old[#old + 1] = member end
  end
  in_chunks('SREM', bucket, old, 1, #old)
  run('PEXPIREAT', bucket, call.forget_at)
end

-- Asks which of its numbers the bucket knows. They stand among its members twice, as of this generation and, behind
-- that, as of the one before; the first member is the generation's mark.
local function ask(call, key, bucket)
  local members, count = bucket.members, bucket.count
  for from = 1, count, CHUNK do
    local seen = try('SMISMEMBER', key, unpack(members, from, min(from + CHUNK - 1, count)))
    if seen.err then
      bucket.wrong = true
      return
    end
    for i = 1, #seen do
      if seen[i] == 1 then
        local place = from + i - 1
        if place == 1 then bucket.swept = true else bucket.known[members[place - place % 2]] = true end
      end
    end
  end
end

-- How an event is laid out, from the cursors k, a and r on:
-- keys: stream, bucket of event ids, those of the cache. records: the key's, further keys'….
-- args: its form, stream's link on the key, event id, its number in the bucket, expected (* any, 0 none,
-- + exists, n exactly), entity, per further key its text and the stream's link on it, names and values
-- of further fields, those of the cache.
-- The form is '<number of further keys> <number of further fields> <schema>'.
local form_of = once(function(word)
  local others, fields, schema = match(word, '^(%d+) (%d+) (%d+)$')
  local form = { others = tonumber(others), fields = tonumber(fields), schema = schema }
  form.tail = 6 + 2 * form.others
  form.cache = form.tail + form.fields
  return form
end)

-- Before the events of a batch stands '<number of events> <of keys> <of args, this one included> <of records> <revision>':
-- the revision of the settings by which its caches are laid out.
local head_of = once(function(word)
  local events, keys, args, records, revision = match(word, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return { events = tonumber(events), keys = tonumber(keys), args = tonumber(args), records = tonumber(records),
    revision = revision }
end)

-- Of each event of a call, by its number there: its cursors, its form, the shape of its cache, its bucket and what
-- stands for its id there; and when it is appended its id in the log and its version. A batch goes by the number of
-- its first event, which has that of the last one here. They are kept for their memory, and a call overwrites what
-- another left; that of a large call is given back.
local key_at, arg_at, record_at, form_at, shape_at, bucket_at, member_at, last_at, revision_at, id_at, version_at
local function make_room()
  key_at, arg_at, record_at, form_at, shape_at = {}, {}, {}, {}, {}
  bucket_at, member_at, last_at, revision_at, id_at, version_at = {}, {}, {}, {}, {}, {}
end
make_room()

-- Finds where the events of a batch stand. Answers the batch, and the cursors behind it.
local function places(call, keys, k, args, a, r)
  local head, buckets, batch = head_of(args[a]), call.buckets, call.events + 1
  local behind_k, behind_a, behind_r = k + head.keys, a + head.args, r + head.records
  local last = call.events + head.events
  call.events, last_at[batch], revision_at[batch], a = last, last, head.revision, a + 1
  for n = batch, last do
    local form, key, number = form_of(args[a]), keys[k + 1], args[a + 3]
    local shape, member = shape_of(args[a + form.cache]), number .. call.digit
    key_at[n], arg_at[n], record_at[n], form_at[n], shape_at[n], member_at[n] = k, a, r, form, shape, member
    local bucket = buckets[key]
    if not bucket then
      bucket = { members = { call.mark }, count = 1, known = {}, new = {} }
      buckets[key] = bucket
    end
    bucket_at[n] = bucket
    local members, count = bucket.members, bucket.count
    members[count + 1], members[count + 2], bucket.count = member, number .. call.before, count + 2
    if n < last then
      k, a, r = k + 2 + shape.keys, behind_cache(args, a + form.cache, shape), r + 1 + form.others
    end
  end
  return batch, behind_k, behind_a, behind_r
end

-- Learns what the batches of the call will ask, with few questions; their records stand together.
local function prepare(call, keys, first_record, last_record)
  fetch_records(call.records, keys, first_record, last_record)
  for key, bucket in pairs(call.buckets) do ask(call, key, bucket) end
end

-- An answer when an event cannot go into its stream, or when its id was used before.
local function refuse_ids(call, keys, args, batch)
  local last, streams = last_at[batch], call.streams
  local known, first_known, ids = 0, nil, batch < last and {}
  for n = batch, last do
    local k = key_at[n]
    if not streams[keys[k]] then
      local why = refuses(call, keys[k])
      if why then return { why, n - batch + 1, keys[k] } end
    end
    local bucket = bucket_at[n]
    if bucket.wrong then return { 'wrongtype', n - batch + 1, keys[k + 1] } end
    if ids then
      local event_id = args[arg_at[n] + 2]
      if ids[event_id] then return { 'duplicate', n - batch + 1 } end
      ids[event_id] = true
    end
    if bucket.known[member_at[n]] then
      known, first_known = known + 1, first_known or n - batch + 1
    end
  end
  if known == 0 then return nil end
  if known <= last - batch then return { 'duplicate', first_known } end
  call.issued = true -- a write, so that a WAIT behind this call waits for what was appended before
  return { 'known' }
end

-- An answer when an event cannot be appended to what its entity is now. What the events before it in the batch make
-- of the entity is its plan there: the version, negative when it is removed. Of a batch that is refused no trace stays.
local function refuse_state(call, keys, args, batch)
  if revision_at[batch] ~= call.revision then return { 'stale' } end
  local records, last = call.records, last_at[batch]
  for n = batch, last do
    local first = record_at[n]
    for j = first, first + form_at[n].others do
      if not records[keys[j]] and not record_of(records, keys[j]) then
        return { 'wrongtype', n - batch + 1, keys[j] }
      end
    end
    local r, expected = records[keys[first]], args[arg_at[n] + 4]
    -- (0 - 0, since -0 is a number of its own, with a text of its own.)
    local planned = r.plan == batch and r.planned or (r.state == 'l' and r.version or 0 - r.version)
    local version = planned < 0 and -planned or planned
    if expected ~= '*' and not (expected == '+' and planned > 0) and tonumber(expected) ~= version then
      return { 'conflict', n - batch + 1, text_of_number(version), planned < 0 and 1 or 0 }
    end
    local shape = shape_at[n]
    if n < last then r.plan, r.planned = batch, shape.removed and -version - 1 or version + 1 end
    if shape.shown and not r.fields then
      local wrong, fields = check_cache(call.types, keys, key_at[n] + 2, shape)
      if wrong then return { 'wrongtype', n - batch + 1, wrong } end
      r.fields = fields
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

-- The entity's state and cache, as its last event of the batch leaves them.
local function show(call, keys, k, args, a, shape, r)
  local state = shape.removed and 'r' or 'l'
  if state ~= r.state or shape.removed then
    local ids, id = keys[k], args[a + 1]
    local listed = call.listed[ids]
    if not listed then
      listed = {}
      call.listed[ids] = listed
    end
    listed[id], r.state = not shape.removed or nil, state
    if shape.removed then run('SREM', ids, id) end
  end
  r.fields = write_entity(keys, k, args, a, shape, r.fields)
end

local function write(call, keys, args, n)
  local k, a, first, form, shape = key_at[n], arg_at[n], record_at[n], form_at[n], shape_at[n]
  local records, others = call.records, form.others
  local r, stream = records[keys[first]], keys[k]
  local after = sub(r.chain, 2)
  for j = 1, others do
    after = after .. '\n' .. args[a + 4 + 2 * j] .. '\t' .. sub(records[keys[first + j]].chain, 2)
  end
  local id, version = next_id(call), r.version + 1
  local version_text = text_of_number(version)
  if type(add_entry(stream, id, version_text, after, args, a, form)) == 'table' then
    -- The stream's newest entries were deleted, so that only it knows how far its ids have come.
    catch_up(call, stream)
    id = next_id(call)
    add_entry(stream, id, version_text, after, args, a, form)
  end
  for j = 1, others do move_other(records[keys[first + j]], args[a + 5 + 2 * j], id) end
  if shape.shown then show(call, keys, k + 2, args, a + form.cache, shape, r) end
  r.version, r.last, r.chain, r.moved = version, '', moved_on(r.chain, args[a + 1], id), true
  local bucket, member = bucket_at[n], member_at[n]
  local new = bucket.new
  new[#new + 1], bucket.known[member] = member, true
  id_at[n], version_at[n] = id, version_text
end

-- Appends a batch that `places` has found and `prepare` knows of. Answers its refusal, if so.
local function append_batch(call, keys, args, batch)
  local refusal = refuse_ids(call, keys, args, batch) or refuse_state(call, keys, args, batch)
  if refusal then return refusal end
  -- from here on nothing may fail
  for n = batch, last_at[batch] do write(call, keys, args, n) end
end

-- The ids and versions of a batch that was appended.
local function answer_of(batch)
  local last = last_at[batch]
  if batch == last then return 'ok ' .. id_at[batch] .. ' ' .. version_at[batch] end
  local words, count = { 'ok' }, 1
  for n = batch, last do
    words[count + 1], words[count + 2], count = id_at[n], version_at[n], count + 2
  end
  return concat(words, ' ')
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
        new[#new + 1] = call.mark
        in_chunks('SADD', key, new, 1, #new)
        forget(call, key)
      else
        in_chunks('SADD', key, new, 1, #new)
      end
    end
  end
  if call.issued then run('SET', call.clock, format('%.0f-%.0f', call.ms, call.seq)) end
  if call.events > CHUNK then make_room() end
end

-- keys: clock, settings, the records of all batches, then their other keys. args: number of batches, for how many
-- ms an event id is remembered where that is not settled, number of records, the batches. Answers a line of words for each.
register('@LIB@_append', function(keys, args)
  local call, records, count = open_call(keys[1], keys[2], args[2]), tonumber(args[3]), tonumber(args[1])
  local batches, k, a, r = {}, 3 + records, 4, 3
  for i = 1, count do batches[i], k, a, r = places(call, keys, k, args, a, r) end
  prepare(call, keys, 3, 2 + records)
  local answers = {}
  for i = 1, count do
    local batch = batches[i]
    local refusal = append_batch(call, keys, args, batch)
    answers[i] = refusal and concat(refusal, ' ') or answer_of(batch)
  end
  close_call(call)
  return answers
end)
