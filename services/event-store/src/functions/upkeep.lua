-- How a consumer joins its group on one stream, keeps house there and leaves.
-- Invariants: the durable cursor never passes an entry that is neither finished nor a dead letter, so
-- a group that is lost goes on there and misses nothing; only entries still pending for this consumer
-- are kept alive, so what another one claimed stays claimed; a consumer is removed only while it has
-- nothing pending; a log that went back in time halts the group until a person accepts it.
--
-- The cursors' hash holds by stream: 'NAME' the cursor, '=NAME' the last entry that was delivered,
-- '!NAME' what halts the group, '+NAME' up to where a group that was lost may deliver again what is
-- finished, '~NAME' how much was finished and since when that is so, '%NAME CONSUMER' the claim time (ms) of a consumer;
-- and for all streams '^' where the group began and '@' which streams its consumers read (streams.lua).

-- A consumer's name belongs to one process at a time: its session stands in a key that expires when the process gives no
-- heartbeat. Answers whether it is, or now is, this process; `take` takes it over from any other, as the newest process of
-- a name does: after a crash nobody gives the name back.
local function keeps_name(key, session, alive_ms, take)
  local holder = run('GET', key)
  if holder and holder ~= session and not take then return false end
  run('SET', key, session, 'PX', alive_ms)
  return true
end

-- The log had this entry and has it no more, though nobody trimmed or deleted it.
local function is_missing(stream, id)
  if id == '' or id == '0-0' then return false end
  local info, fields = try('XINFO', 'STREAM', stream), {}
  if info.err then return true end
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  if not reaches(fields['last-generated-id'], id) then return true end
  if #run('XRANGE', stream, id, id) > 0 then return false end
  local first = fields['first-entry']
  return first and not reaches(first[1], id) and not reaches(fields['max-deleted-entry-id'], id)
end

-- The log has lost what was known of it: ids that it will give again would pass for finished ones.
-- Answers what to answer then. `seen` is the highest id that the consumer was given, or ''.
local function went_back(stream, cursors, name, seen)
  local found = run('HMGET', cursors, name, '!' .. name, '=' .. name)
  local cursor, halted, delivered = found[1], found[2], found[3] or ''
  if not halted then
    local last, known = last_id(stream), nil
    if cursor and not reaches(last, cursor) then known = cursor end
    if is_missing(stream, delivered) then known = delivered end
    if is_missing(stream, seen) and (not known or reaches(seen, known)) then known = seen end
    if not known then return nil, cursor, delivered end
    halted = known .. ' ' .. last
    run('HSET', cursors, '!' .. name, halted)
  end
  return { 'back', match(halted, '^(%S+) (%S+)$') }
end

-- After how long (ms) nobody is heard of an entry may be claimed: the longest claim time of the consumers that hold
-- entries. Each of them relies on its own.
local function claim_time(stream, cursors, name, group)
  local longest, consumers = 0, try('XINFO', 'CONSUMERS', stream, group)
  if consumers.err then return 0 end
  for _, c in ipairs(consumers) do
    local one = {}
    for i = 1, #c, 2 do one[c[i]] = c[i + 1] end
    if one.pending > 0 then
      longest = max(longest, tonumber(run('HGET', cursors, '%' .. name .. ' ' .. one.name) or 0))
    end
  end
  return longest
end

-- Where a group begins on a stream that it has not read: the first to ask decides, for all streams.
local function beginning(stream, cursors, clock, start)
  local begun = run('HGET', cursors, '^')
  if not begun then
    begun = start
    if start == '$' then begun = run('GET', clock) or last_id(stream) end
    run('HSET', cursors, '^', begun)
  end
  -- A group never stands beyond the end of its log: that is how a log that went back is known.
  local last = last_id(stream)
  return reaches(last, begun) and begun or last
end

-- Makes the group where it is not: at its cursor, or where it is to begin.
-- keys: stream, cursors, clock, session. args: group, stream's name, highest id seen or '', where to begin (an
-- id, or '$' for now), the process' session, its claim time (ms), for which it counts as alive, '1' to take the consumer's
-- name over, consumer.
register('@LIB@_join', function(keys, args)
  local group, name = args[1], args[2]
  if not keeps_name(keys[4], args[5], args[6], args[7] == '1') then return { 'taken' } end
  local back, cursor = went_back(keys[1], keys[2], name, args[3])
  if back then return back end
  run('HSET', keys[2], '%' .. name .. ' ' .. args[8], args[6])
  local answer = 'there'
  if not info_of(keys[1], group) then
    local from = cursor or beginning(keys[1], keys[2], keys[3], args[4])
    run('XGROUP', 'CREATE', keys[1], group, from, 'MKSTREAM')
    if cursor then
      answer = 'recovered'
      run('HSET', keys[2], '+' .. name, last_id(keys[1]))
    else
      answer = 'made'
      run('HSET', keys[2], name, from)
    end
  end
  return { answer, run('HGET', keys[2], '+' .. name) or '0-0' }
end)

-- The time (ms) since which as much was finished as now. That something became pending while nothing was counts too:
-- nobody has to finish what is not there.
local function unchanged_since(cursors, name, info, pending, now)
  local read = info['entries-read']
  local finished = read and text_of_number(read - pending[1]) or info['last-delivered-id'] .. '/' .. pending[1]
  local mark = finished .. (pending[1] > 0 and '+' or '-')
  local known, since = match(run('HGET', cursors, '~' .. name) or '', '^(%S+) (%d+)$')
  if known == mark then return since end
  run('HSET', cursors, '~' .. name, mark .. ' ' .. now)
  return now
end

-- keys: stream, cursors, session. args: group, consumer, stream's name, idle ms after which an empty consumer
-- goes, highest id seen or '', the process' session, its claim time (ms), for which it counts as alive, then the ids in
-- hand, ascending. Answers 'taken' where another process has the consumer's name; else how the group stands (number
-- pending, lag or '' where the server does not know it, oldest pending id or '', the server's time in
-- ms, the time since which nothing was finished, the oldest one's consumer or ''), then those of the ids that are no
-- longer this consumer's.
register('@LIB@_upkeep', function(keys, args)
  local group, consumer, name, idle = args[1], args[2], args[3], tonumber(args[4])
  if not keeps_name(keys[3], args[6], args[7], false) then return { 'taken' } end
  local back, known, delivered = went_back(keys[1], keys[2], name, args[5])
  if back then return back end
  local info = info_of(keys[1], group)
  if not info then return { 'nogroup' } end
  local own = '%' .. name .. ' ' .. consumer
  if run('HGET', keys[2], own) ~= args[7] then run('HSET', keys[2], own, args[7]) end
  local pending, time = run('XPENDING', keys[1], group), run('TIME')
  local now = format('%.0f', tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000))
  local since, holder = unchanged_since(keys[2], name, info, pending, now), ''
  if pending[1] > 0 then
    local oldest = run('XPENDING', keys[1], group, pending[2], pending[2], 1)[1]
    holder = oldest and oldest[2] or ''
  end
  local answer = { 'ok', pending[1], info.lag or '', pending[2] or '', now, since, holder }
  local ids, mine = {}, {}
  for i = 8, #args do ids[#ids + 1] = args[i] end
  local pending_here = held(keys[1], group, consumer, ids)
  for i, id in ipairs(ids) do
    if pending_here[i] then mine[#mine + 1] = id else answer[#answer + 1] = id end
  end
  for from = 1, #mine, PART do
    local part = { unpack(mine, from, min(from + PART - 1, #mine)) }
    part[#part + 1] = 'JUSTID'
    run('XCLAIM', keys[1], group, consumer, 0, unpack(part))
  end
  local cursor = info['last-delivered-id']
  if pending[1] > 0 then cursor = id_before(pending[2]) end
  -- A group that was made again may stand at an id that no entry has.
  local last = info['last-delivered-id']
  if last ~= delivered and #run('XRANGE', keys[1], last, last) == 0 then last = '' end
  if cursor ~= known or last ~= delivered then run('HSET', keys[2], name, cursor, '=' .. name, last) end
  for _, c in ipairs(run('XINFO', 'CONSUMERS', keys[1], group)) do
    local one = {}
    for i = 1, #c, 2 do one[c[i]] = c[i + 1] end
    if one.name ~= consumer and one.pending == 0 and one.idle > idle then
      run('XGROUP', 'DELCONSUMER', keys[1], group, one.name)
      run('HDEL', keys[2], '%' .. name .. ' ' .. one.name)
    end
  end
  return answer
end)

-- The pending entries that one claim looks at, where it finds none to claim.
local LOOKED = 1000

-- Claims what has been idle for too long.
-- keys: stream, cursors. args: group, consumer, least idle ms, where to go on in the pending list, at most so many,
-- the time (ms) after which nothing is claimed any more, stream's name. Answers where to go on ('0-0' at the end) and
-- the entries; 'late' when its time is over: a server that stood still meanwhile makes the living look
-- dead, and they may be waiting behind this call to say that they live.
register('@LIB@_claim', function(keys, args)
  local time = run('TIME')
  local now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  if now > tonumber(args[6]) then return { 'late' } end
  -- It looks at ten times as many entries as it may claim; where none of these was idle for long enough, at further ones.
  local least = max(tonumber(args[3]), claim_time(keys[1], keys[2], args[7], args[1]))
  local from, count, looked, found = args[4], tonumber(args[5]), 0, nil
  repeat
    found = run('XAUTOCLAIM', keys[1], args[1], args[2], least, from, 'COUNT', count)
    from, looked = found[1], looked + 10 * count
  until #found[2] > 0 or from == '0-0' or looked >= LOOKED
  return { from, found[2] }
end)

-- Leaves the group on one stream: what is in hand is handed back (old enough to be claimed at
-- once), and a consumer without pending entries is removed.
-- What is pending for the name of a process that came later is that one's: then nothing is handed back.
-- A part with each call. keys: stream, session, cursors. args: group, consumer, where to begin, at most, the process'
-- session, stream's name. Answers how many were handed back and the last of them; 'taken' where another process has the name.
register('@LIB@_leave', function(keys, args)
  local group, consumer = args[1], args[2]
  local holder = run('GET', keys[2])
  if holder and holder ~= args[5] then return { 'taken' } end
  run('DEL', keys[2])
  local pending = try('XPENDING', keys[1], group, args[3], '+', args[4], consumer)
  if pending.err then return { 'nogroup' } end
  for _, p in ipairs(pending) do
    run('XCLAIM', keys[1], group, consumer, 0, p[1], 'IDLE', 86400000, 'JUSTID')
  end
  if #pending == 0 and args[3] == '-' then run('XGROUP', 'DELCONSUMER', keys[1], group, consumer) end
  -- What it leaves is for anybody at once.
  run('HDEL', keys[3], '%' .. args[6] .. ' ' .. consumer)
  return { 'ok', #pending, #pending > 0 and pending[#pending][1] or '' }
end)

-- A person accepts the log as it is: positions, cursor and group go back to its end, a part of the
-- positions with each call; the group goes on with the last one. Until then it stays halted.
-- keys: stream, cursors, positions. args: group, stream's name, where to go on in the positions.
-- Answers where to go on ('0' at the end), how many positions went back, and the log's last id.
register('@LIB@_accept', function(keys, args)
  local group, name = args[1], args[2]
  if run('HEXISTS', keys[2], '!' .. name) == 0 then return { 'ok', '0', 0, '' } end
  local last, lowered = last_id(keys[1]), 0
  local page = run('HSCAN', keys[3], args[3], 'COUNT', 1000)
  for i = 1, #page[2], 2 do
    local field, position = page[2][i], page[2][i + 1]
    if sub(field, -#name - 1) == ' ' .. name and not reaches(last, position) then
      run('HSET', keys[3], field, last)
      lowered = lowered + 1
    end
  end
  if page[1] == '0' then
    local info = info_of(keys[1], group)
    if info and not reaches(last, info['last-delivered-id']) then
      run('XGROUP', 'SETID', keys[1], group, last)
    end
    local cursor = run('HGET', keys[2], name)
    if cursor and not reaches(last, cursor) then run('HSET', keys[2], name, last) end
    run('HDEL', keys[2], '!' .. name, '=' .. name)
  end
  return { 'ok', page[1], lowered, last }
end)
