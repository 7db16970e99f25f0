-- Which streams the consumers of a group read. Consumers of one group may name different streams, as the old and the new
-- pods of a rolling update do: each of them waits for the events of all streams that a living consumer reads.
-- Invariants: a stream counts as read until its readers have sent no heartbeat for the time that they stored; a stream
-- that joins a group with living consumers is open (its events may be handled) only when a lease is over, for which the
-- others may rely on the list that they have.
--
-- The list is the field '@' of the cursors' hash: for each stream that was ever read since the field exists 'NAME open
-- read until', one a line. All three are times (ms) of the server: from when on its events may be handled, the last
-- heartbeat of a reader that was stored, until when it counts as read.

local function now_ms()
  local time = run('TIME')
  return tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end

-- The list, in its order, whether the group has a living consumer, and whether the list differs from the stored one: a
-- heartbeat that is still to come was stored before the server's clock was set back, and counts as one of now.
local function streams_of(cursors, now)
  local list, is_alive, is_changed = {}, false, false
  for name, open, read, untill in gmatch(run('HGET', cursors, '@') or '', '(%S+) (%d+) (%d+) (%d+)') do
    local stream = { name = name, open = tonumber(open), read = tonumber(read), untill = tonumber(untill) }
    if stream.read > now then
      stream.read, stream.untill, is_changed = now, now + stream.untill - stream.read, true
    end
    list[#list + 1], is_alive = stream, is_alive or stream.untill >= now
  end
  return list, is_alive, is_changed
end

-- The list as an answer.
local function add_streams(answer, list, now)
  answer[#answer + 1] = text_of_number(now)
  for _, stream in ipairs(list) do
    answer[#answer + 1] = stream.name
    answer[#answer + 1] = text_of_number(stream.open)
    answer[#answer + 1] = text_of_number(stream.read)
    answer[#answer + 1] = text_of_number(stream.untill)
  end
  return answer
end

-- Does a living consumer read a stream that is not among these? (Names between spaces.)
local function reads_others(list, names, now)
  for _, stream in ipairs(list) do
    if stream.untill >= now and not find(names, ' ' .. stream.name .. ' ', 1, true) then return true end
  end
  return false
end

-- A heartbeat of a consumer: it reads these streams.
-- keys: cursors. args: for how long (ms) they count as read, the lease (ms), the streams' names. Answers 'ok', the
-- server's time (ms) and the list: name, open, read and until of each stream.
register('@LIB@_streams', function(keys, args)
  local now, alive, lease = now_ms(), tonumber(args[1]), tonumber(args[2])
  local list, is_group_alive, is_changed = streams_of(keys[1], now)
  local by_name = {}
  for _, stream in ipairs(list) do by_name[stream.name] = stream end
  for i = 3, #args do
    local stream = by_name[args[i]]
    if not stream then
      stream = { name = args[i], untill = 0 }
      list[#list + 1], by_name[args[i]] = stream, stream
    end
    if stream.untill < now then stream.open = is_group_alive and now + lease or now end
    -- An eighth of the time is not worth a write.
    if stream.untill < now + alive * 7 / 8 then
      stream.read, stream.untill, is_changed = now, now + alive, true
    end
  end
  if is_changed then
    local lines = {}
    for i, s in ipairs(list) do lines[i] = format('%s %.0f %.0f %.0f', s.name, s.open, s.read, s.untill) end
    run('HSET', keys[1], '@', concat(lines, '\n'))
  end
  return add_streams({ 'ok' }, list, now)
end)
