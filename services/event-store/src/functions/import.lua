-- Import: entries with the ids that they had, and what follows from them.
-- Invariant: a page is in the log with its records, its caches and the clock, or nothing of it is;
-- what is there already is left alone, so a page that is sent twice is there once; and an entry
-- comes in only behind everything that was ever issued here, so no reader has passed its place.

-- How an entry is laid out, from the cursors k and a on:
-- keys: stream, and of an event its record, further keys' records…, those of the cache.
-- args: id, event (1 or 0), version, stream's link on the key, number of further keys, the stream's link
-- on each, number of fields, names and values, those of the cache.
local function import_place(args, k, a)
  local others = tonumber(args[a + 4])
  local e = { k = k, a = a, id = args[a], event = args[a + 1] == '1', version = tonumber(args[a + 2]),
    others = others, fields = a + 6 + others, count = tonumber(args[a + 5 + others]) }
  e.behind_k, e.behind_a = k + 1, e.fields + e.count
  if e.event then
    e.cache_k, e.cache_a, e.shape = k + 2 + others, e.behind_a, shape_of(args[e.behind_a])
    e.behind_k = e.cache_k + e.shape.keys
    e.behind_a = behind_cache(args, e.cache_a, e.shape)
  end
  return e
end

local function top_of(tops, stream)
  if tops[stream] then return tops[stream] end
  local top = '0-0'
  local t = type_of(stream)
  if t == 'stream' then
    local info = run('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then top = info[i + 1] end
    end
  elseif t ~= 'none' then
    return nil
  end
  tops[stream] = top
  return top
end

-- An answer when the page is refused.
local function refuse_import(keys, args, plan, clock)
  local tops, records, hashes, types = {}, {}, {}, {}
  for i, e in ipairs(plan) do
    local stream = keys[e.k]
    local top = top_of(tops, stream)
    if not top then return { 'wrongtype', i, stream } end
    e.known = reaches(top, e.id) and #run('XRANGE', stream, e.id, e.id) == 1
    if not e.known then
      if reaches(top, e.id) or (clock ~= e.id and reaches(clock, e.id)) then return { 'conflict', i } end
      tops[stream] = e.id
      if e.event then
        for j = e.k + 1, e.k + 1 + e.others do
          if not record_of(records, keys[j]) then return { 'wrongtype', i, keys[j] } end
        end
        local r = records[keys[e.k + 1]]
        -- Versions between the two were trimmed before the export.
        if e.version <= (r.planned or r.version) then return { 'conflict', i } end
        r.planned = e.version
        local wrong, fields = check_cache(types, keys, e.cache_k, e.shape)
        if wrong then return { 'wrongtype', i, wrong } end
        hashes[keys[e.cache_k + 1]] = fields
      end
    end
  end
  return nil, records, hashes
end

-- keys: clock, then those of the entries. args: number of entries, the entries.
register('@LIB@_import', function(keys, args)
  local plan, k, a = {}, 2, 2
  for i = 1, tonumber(args[1]) do
    plan[i] = import_place(args, k, a)
    k, a = plan[i].behind_k, plan[i].behind_a
  end
  local clock = run('GET', keys[1]) or '0-0'
  local refusal, records, hashes = refuse_import(keys, args, plan, clock)
  if refusal then return refusal end
  local written = 0
  -- from here on nothing may fail
  for _, e in ipairs(plan) do
    if not e.known then
      run('XADD', keys[e.k], e.id, unpack(args, e.fields, e.fields + e.count - 1))
      written = written + 1
      if not reaches(clock, e.id) then clock = e.id end
      if e.event then
        for j = 1, e.others do move_other(records[keys[e.k + 1 + j]], args[e.a + 4 + j], e.id) end
        local r, hash = records[keys[e.k + 1]], keys[e.cache_k + 1]
        hashes[hash] = write_cache(keys, e.cache_k, args, e.cache_a, e.shape, hashes[hash], r.state == 'l')
        r.version, r.last, r.chain = e.version, '', moved_on(r.chain, args[e.a + 3], e.id)
        r.state = e.shape.removed and 'r' or 'l'
      end
    end
  end
  for key, r in pairs(records) do
    run('SET', key, text_of(r))
  end
  run('SET', keys[1], clock)
  return { 'ok', written }
end)

-- What no entry says: how far the clock had come, and where the log was trimmed. Only moves on.
-- keys: clock, marks. args: clock, then streams' names and their marks.
register('@LIB@_import_end', function(keys, args)
  if not reaches(run('GET', keys[1]), args[1]) then run('SET', keys[1], args[1]) end
  for i = 2, #args, 2 do
    if not reaches(run('HGET', keys[2], args[i]), args[i + 1]) then
      run('HSET', keys[2], args[i], args[i + 1])
    end
  end
  return { 'ok' }
end)
