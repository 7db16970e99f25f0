-- Appends a batch of events.
-- Invariant: either every event of the batch is in the log and in its entity's cache, or nothing
-- was written. Lua does not roll back, so everything that can fail is checked before the first
-- write; what follows the line 'from here on nothing may fail' uses keys of proven types only.
--
-- spec.events[i] names its keys by their index in `keys`.

local TYPES = { stream = 'stream', meta = 'hash', seen = 'string', ids = 'set', hash = 'hash' }

local function wrong_type(keys, e)
  local function differs(index, expected)
    local t = type_of(keys[index])
    return t ~= 'none' and t ~= expected and keys[index]
  end
  for field, expected in pairs(TYPES) do
    local key = differs(e[field], expected)
    if key then return key end
  end
  for _, index in ipairs(e.chains) do
    local key = differs(index, 'hash')
    if key then return key end
  end
  for _, list in ipairs(e.lists) do
    local key = differs(list.key, 'list')
    if key then return key end
  end
  for _, lookup in ipairs(e.indexes) do
    local key = differs(lookup.key, 'zset')
    if key then return key end
  end
end

-- Nothing when the batch may be written, and what stands in the cache by meta key; an answer to return otherwise.
local function refuse(keys, events)
  local known, answers, batch_ids, state = 0, {}, {}, {}
  for i, e in ipairs(events) do
    local key = wrong_type(keys, e)
    if key then return { 'wrongtype', i, key } end
    if batch_ids[e.event_id] then return { 'duplicate', i } end
    batch_ids[e.event_id] = true
    local seen = redis.call('GET', keys[e.seen])
    if seen then
      local id, version, digest = string.match(seen, '^(%S+) (%d+) (%S+)$')
      if digest ~= e.digest then return { 'duplicate', i } end
      known = known + 1
      answers[i] = { id, tonumber(version) }
    end
  end
  if known == #events then
    local answer = { 'known' }
    for i, a in ipairs(answers) do
      answer[2 * i] = a[1]
      answer[2 * i + 1] = a[2]
    end
    return answer
  end
  for i, e in ipairs(events) do
    if answers[i] then return { 'duplicate', i } end
    local s = state[e.meta]
    if not s then
      local m = redis.call('HMGET', keys[e.meta], 'version', 'deleted', 'schema')
      s = { version = tonumber(m[1] or '0'), deleted = m[2] == '1', schema = m[3] }
      state[e.meta] = s
    end
    local ok = e.expected == 'any'
      or (e.expected == 'none' and s.version == 0)
      or (e.expected == 'exists' and s.version > 0 and not s.deleted)
      or (type(e.expected) == 'number' and s.version == e.expected)
    if not ok then return { 'conflict', i, s.version, s.deleted and 1 or 0 } end
    s.version = s.version + 1
    s.deleted = e.remove
  end
  return nil, state
end

-- The last id issued, from the store's clock; a lost clock falls back to the streams' own.
local function last_issued(keys, events, clock)
  local last = redis.call('GET', keys[clock])
  if last then return split_id(last) end
  local ms, seq = 0, 0
  for _, e in ipairs(events) do
    if redis.call('EXISTS', keys[e.stream]) == 1 then
      local info = redis.call('XINFO', 'STREAM', keys[e.stream])
      for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then
          local m, s = split_id(info[i + 1])
          if m > ms or (m == ms and s > seq) then ms, seq = m, s end
        end
      end
    end
  end
  return ms, seq
end

local function cache(keys, e)
  local hash, id = keys[e.hash], e.entity_id
  for _, lookup in ipairs(e.indexes) do
    local old = redis.call('HGET', hash, lookup.field)
    if old then redis.call('ZREM', keys[lookup.key], old .. '\0' .. id) end
  end
  redis.call('DEL', hash)
  for _, list in ipairs(e.lists) do redis.call('DEL', keys[list.key]) end
  if e.remove then
    redis.call('SREM', keys[e.ids], id)
    return
  end
  redis.call('SADD', keys[e.ids], id)
  for _, pair in ipairs(e.fields) do redis.call('HSET', hash, pair[1], pair[2]) end
  for _, list in ipairs(e.lists) do
    for _, item in ipairs(list.items) do redis.call('RPUSH', keys[list.key], item) end
    redis.call('HSET', hash, list.field, keys[list.key])
  end
  for _, lookup in ipairs(e.indexes) do
    if type(lookup.value) == 'string' then redis.call('ZADD', keys[lookup.key], 0, lookup.value .. '\0' .. id) end
  end
end

-- What stood before this event on each of its ordering keys, per stream; and moves them on.
local function chain(keys, e, id)
  local after = {}
  for i, index in ipairs(e.chains) do
    local before = redis.call('HGETALL', keys[index])
    if #before > 0 then
      local last = {}
      for j = 1, #before, 2 do last[before[j]] = before[j + 1] end
      after[e.keys[i]] = last
    else
      after[e.keys[i]] = cjson.decode('{}')
    end
    redis.call('HSET', keys[index], e.name, id)
  end
  return cjson.encode(after)
end

local function append_batch(keys, spec)
  local events = spec.events
  local refusal, state = refuse(keys, events)
  if refusal then return refusal end
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local now_seq = tonumber(time[2]) % 1000
  local ms, seq = last_issued(keys, events, spec.clock)
  local answer = { 'ok' }
  -- from here on nothing may fail
  for i, e in ipairs(events) do
    if now_ms > ms or (now_ms == ms and now_seq > seq) then
      ms, seq = now_ms, now_seq
    else
      seq = seq + 1
    end
    local id = string.format('%.0f-%.0f', ms, seq)
    local version = redis.call('HINCRBY', keys[e.meta], 'version', 1)
    local entry = {
      'event_id', e.event_id, 'entity', e.entity, 'entity_type', e.entity_type, 'entity_id', e.entity_id,
      'version', version, 'schema', e.schema, 'after', chain(keys, e, id),
    }
    for _, pair in ipairs(e.metadata) do
      entry[#entry + 1] = pair[1]
      entry[#entry + 1] = pair[2]
    end
    redis.call('XADD', keys[e.stream], id, unpack(entry))
    redis.call('HSET', keys[e.meta], 'deleted', e.remove and 1 or 0, 'body', e.entity)
    -- Most entities never leave schema 1, which stands for a missing field.
    local s = state[e.meta]
    if e.schema ~= 1 or s.schema then
      redis.call('HSET', keys[e.meta], 'schema', e.schema)
      s.schema = e.schema
    end
    cache(keys, e)
    redis.call('SET', keys[e.seen], id .. ' ' .. version .. ' ' .. e.digest, 'PX', spec.dedup_ms)
    answer[2 * i] = id
    answer[2 * i + 1] = version
  end
  redis.call('SET', keys[spec.clock], string.format('%.0f-%.0f', ms, seq))
  return answer
end

redis.register_function('@LIB@_append', function(keys, args)
  return append_batch(keys, cjson.decode(args[1]))
end)
