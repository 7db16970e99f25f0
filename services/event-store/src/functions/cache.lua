-- The entity cache: the set of ids, an entity's hash, its lists and the indexes.
-- Invariant: it is written only after `check_cache` has found nothing wrong with any of its keys, so a
-- write of it cannot fail; and it holds exactly what the last event of the entity says.

-- How one entity's part is laid out, from the cursors k and a on:
-- keys: ids, hash, indexes…, lists….
-- args: entity's id, removed (1 or 0), number of field args, number of indexes, number of lists, then
-- names and values of the fields, per index its field, whether there is a value (1 or 0) and the
-- value, per list the number of items and the items.

local CHUNK = 1000 -- Lua's stack bounds how many arguments one command can take

local function in_chunks(command, key, args, from, to)
  local answers = 0
  for i = from, to, CHUNK do
    answers = answers + redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, to)))
  end
  return answers
end

-- Has the key another type? Asked once for each key of a call; `types` remembers.
local function differs(types, key, expected)
  local t = types[key]
  if not t then
    t = redis.call('TYPE', key).ok
    if t == 'none' then t = expected end
    types[key] = t
  end
  return t ~= expected
end

-- A key of another type, or nil and how many fields the hash has.
local function check_cache(types, keys, k, args, a)
  if differs(types, keys[k], 'set') then return keys[k] end
  local fields = redis.pcall('HLEN', keys[k + 1])
  if type(fields) == 'table' then return keys[k + 1] end
  local indexes, lists = tonumber(args[a + 3]), tonumber(args[a + 4])
  for i = k + 2, k + 1 + indexes do
    if differs(types, keys[i], 'zset') then return keys[i] end
  end
  for i = k + 2 + indexes, k + 1 + indexes + lists do
    if differs(types, keys[i], 'list') then return keys[i] end
  end
  return nil, fields
end

-- Where the next thing stands among the args.
local function behind_cache(args, a)
  local at = a + 5 + tonumber(args[a + 2]) + 3 * tonumber(args[a + 3])
  for _ = 1, tonumber(args[a + 4]) do at = at + 1 + tonumber(args[at]) end
  return at
end

-- `fields`: how many the hash has now. `listed`: is the id in the set already?
local function write_cache(keys, k, args, a, fields, listed)
  local id, removed, ids, hash = args[a], args[a + 1] == '1', keys[k], keys[k + 1]
  local count, indexes, lists = tonumber(args[a + 2]), tonumber(args[a + 3]), tonumber(args[a + 4])
  local at = a + 5 + count
  for i = 1, indexes do
    local old = redis.call('HGET', hash, args[at])
    local new = not removed and args[at + 1] == '1' and args[at + 2]
    local index = keys[k + 1 + i]
    if old and old ~= new then redis.call('ZREM', index, old .. '\0' .. id) end
    if new then redis.call('ZADD', index, 0, new .. '\0' .. id) end
    at = at + 3
  end
  for i = 1, lists do
    local list, items = keys[k + 1 + indexes + i], tonumber(args[at])
    redis.call('DEL', list)
    if not removed then in_chunks('RPUSH', list, args, at + 1, at + items) end
    at = at + 1 + items
  end
  if removed then
    redis.call('DEL', hash)
    redis.call('SREM', ids, id)
    return 0
  end
  if not listed then redis.call('SADD', ids, id) end
  -- The same fields are overwritten in place; where the entity has others now, the hash is made anew,
  -- so that it shows them in the writer's order.
  local added = in_chunks('HSET', hash, args, a + 5, a + 4 + count)
  if fields + added ~= count / 2 or (fields > 0 and added > 0) then
    redis.call('DEL', hash)
    in_chunks('HSET', hash, args, a + 5, a + 4 + count)
  end
  return count / 2
end
