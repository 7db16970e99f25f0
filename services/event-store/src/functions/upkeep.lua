-- A consumer's housekeeping on one stream of its group.
-- Invariants: only entries still pending for this consumer are kept alive, so what another one
-- claimed stays claimed; the durable cursor never passes an unfinished entry and never goes back;
-- a consumer is removed only while it has nothing pending.

-- keys: stream, cursors. args: group, consumer, stream's name, idle ms after which an empty
-- consumer goes, JSON of the ids in hand.
redis.register_function('@LIB@_upkeep', function(keys, args)
  local group, consumer, name, idle = args[1], args[2], args[3], tonumber(args[4])
  for _, id in ipairs(cjson.decode(args[5])) do
    if owner(keys[1], group, id) == consumer then
      redis.call('XCLAIM', keys[1], group, consumer, 0, id, 'JUSTID')
    end
  end
  local cursor = nil
  for _, g in ipairs(redis.call('XINFO', 'GROUPS', keys[1])) do
    local info = {}
    for i = 1, #g, 2 do info[g[i]] = g[i + 1] end
    if info.name == group then cursor = info['last-delivered-id'] end
  end
  if not cursor then return { 'nogroup' } end
  local pending = redis.call('XPENDING', keys[1], group)
  if pending[1] > 0 then
    local ms, seq = split_id(pending[2])
    if seq > 0 then
      cursor = string.format('%.0f-%.0f', ms, seq - 1)
    else
      cursor = string.format('%.0f-18446744073709551615', ms - 1)
    end
  end
  local known = redis.call('HGET', keys[2], name)
  if not known or reaches(cursor, known) then redis.call('HSET', keys[2], name, cursor) end
  for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', keys[1], group)) do
    local info = {}
    for i = 1, #c, 2 do info[c[i]] = c[i + 1] end
    if info.name ~= consumer and info.pending == 0 and info.idle > idle then
      redis.call('XGROUP', 'DELCONSUMER', keys[1], group, info.name)
    end
  end
  return { 'ok' }
end)

-- Leaves the group on one stream: what is in hand is handed back (old enough to be claimed at
-- once), and a consumer without pending entries is removed.
-- keys: stream. args: group, consumer.
redis.register_function('@LIB@_leave', function(keys, args)
  local group, consumer = args[1], args[2]
  local pending = redis.pcall('XPENDING', keys[1], group, '-', '+', 10000, consumer)
  if pending.err then return { 'nogroup' } end
  for _, p in ipairs(pending) do
    redis.call('XCLAIM', keys[1], group, consumer, 0, p[1], 'IDLE', 86400000, 'JUSTID')
  end
  if #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', keys[1], group, consumer) end
  return { 'ok', #pending }
end)
