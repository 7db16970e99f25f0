-- The entity cache: the set of ids, an entity's hash, its lists and the indexes.
-- Invariant: it is written only after `check_cache` has found nothing wrong with any of its keys, so a
-- write of it cannot fail; and it holds exactly what the last event of the entity says.

-- How one entity's part is laid out, from the cursors k and a on:
-- keys: ids, hash, indexes…, lists….
-- args: its shape, entity's id, names and values of the fields, per index its field, whether there is a
-- value (1 or 0) and the value, per list the number of items and the items.
-- The shape is '<removed, 1 or 0> <number of field args> <number of indexes> <number of lists>', or just
-- '<removed>' for an event that a later one of its batch supersedes: that has no keys and no more args.

local CHUNK = 1000 -- Lua's stack bounds how many arguments one command can take

local function in_chunks(command, key, args, from, to)
  if from <= to and to - from < CHUNK then return run(command, key, unpack(args, from, to)) end
  local answers = 0
  for i = from, to, CHUNK do
    answers = answers + run(command, key, unpack(args, i, min(i + CHUNK - 1, to)))
  end
  return answers
end

-- Words that describe a form are few and come again: what one means is found out once. (A thousand of
-- them are remembered, whatever is sent.)
local function once(parse)
  local known, count = {}, 0
  return function(word)
    local meaning = known[word]
    if not meaning then
      if count == 1000 then known, count = {}, 0 end
      meaning = parse(word)
      known[word], count = meaning, count + 1
    end
    return meaning
  end
end

local shape_of = once(function(word)
  local removed, count, indexes, lists = match(word, '^([01]) (%d+) (%d+) (%d+)$')
  if not removed then return { removed = word == '1', keys = 0 } end
  local shape = { removed = removed == '1', shown = true, count = tonumber(count), indexes = tonumber(indexes),
    lists = tonumber(lists) }
  shape.keys, shape.fields = 2 + shape.indexes + shape.lists, shape.count / 2
  shape.plain = shape.keys == 2 -- neither indexes nor lists
  return shape
end)

-- Has the key another type? Asked once for each key of a call; `types` remembers.
local function differs(types, key, expected)
  local t = types[key]
  if not t then
    t = run('TYPE', key).ok
    if t == 'none' then t = expected end
    types[key] = t
  end
  return t ~= expected
end

-- A key of another type, or nil and how many fields the hash has.
local function check_cache(types, keys, k, shape)
  if differs(types, keys[k], 'set') then return keys[k] end
  local fields = try('HLEN', keys[k + 1])
  if type(fields) == 'table' then return keys[k + 1] end
  if shape.plain then return nil, fields end
  local first_list = k + 2 + shape.indexes
  for i = k + 2, first_list - 1 do
    if differs(types, keys[i], 'zset') then return keys[i] end
  end
  for i = first_list, first_list + shape.lists - 1 do
    if differs(types, keys[i], 'list') then return keys[i] end
  end
  return nil, fields
end

-- Where the next thing stands among the args.
local function behind_cache(args, a, shape)
  if not shape.shown then return a + 1 end
  local at = a + 2 + shape.count + 3 * shape.indexes
  for _ = 1, shape.lists do at = at + 1 + tonumber(args[at]) end
  return at
end

-- All but the set of ids. `fields`: how many the hash has now; answers how many it has then.
local function write_entity(keys, k, args, a, shape, fields)
  local id, hash = args[a + 1], keys[k + 1]
  local first, last = a + 2, a + 1 + shape.count
  local at = last + 1
  for i = 1, shape.indexes do
    local old = run('HGET', hash, args[at])
    local new = not shape.removed and args[at + 1] == '1' and args[at + 2]
    local index = keys[k + 1 + i]
    if old and old ~= new then run('ZREM', index, old .. '\0' .. id) end
    if new then run('ZADD', index, 0, new .. '\0' .. id) end
    at = at + 3
  end
  for i = 1, shape.lists do
    local list, items = keys[k + 1 + shape.indexes + i], tonumber(args[at])
    run('DEL', list)
    if not shape.removed then in_chunks('RPUSH', list, args, at + 1, at + items) end
    at = at + 1 + items
  end
  if shape.removed then
    run('DEL', hash)
    return 0
  end
  -- The same fields are overwritten in place; where the entity has others now, the hash is made anew,
  -- so that it shows them in the writer's order.
  local added = in_chunks('HSET', hash, args, first, last)
  if fields + added ~= shape.fields or (fields > 0 and added > 0) then
    run('DEL', hash)
    in_chunks('HSET', hash, args, first, last)
  end
  return shape.fields
end

-- The whole of one entity. `listed`: is the id in the set already?
local function write_cache(keys, k, args, a, shape, fields, listed)
  if shape.removed then
    run('SREM', keys[k], args[a + 1])
  elseif not listed then
    run('SADD', keys[k], args[a + 1])
  end
  return write_entity(keys, k, args, a, shape, fields)
end
