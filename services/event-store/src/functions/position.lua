-- Positions of readers that keep their state outside the server: everything up to there is processed, and a trim
-- keeps what comes after it.
-- Invariants: a position is registered, or moved back by a rewind, only where nothing after it was trimmed; a commit
-- never moves it back; of the streams of one call all are moved or none.
--
-- The hash holds 'NAME STREAM' → 'ID MS': the position, and the server's time in ms when it last moved.

local function position_of(value)
  return value and match(value, '^(%d+%-%d+) %d+$')
end

-- The first id that is left of the stream when entries after this id were trimmed; else nothing.
local function trimmed_after(marks, stream, id)
  local found = run('HMGET', marks, stream, stream .. ' last')
  if not found[1] then return nil end
  local mark, last = match(found[2] or '', '^(%S+) (%S+)$')
  -- An older version does not write the last id that it trimmed: everything before the mark may be gone.
  if mark ~= found[1] then last = id_before(found[1]) end
  if not reaches(id, last) then return found[1] end
end

-- The name of a position that needs entries of the stream up to this id; else nothing. A value that cannot be read
-- may need all of them.
local function needed_by_position(positions, stream, id)
  local all = run('HGETALL', positions)
  for i = 1, #all, 2 do
    local name, of = match(all[i], '^(%S+) (%S+)$')
    if of == stream and not reaches(position_of(all[i + 1]), id) then return name end
  end
end

-- keys: positions, marks, clock, then the streams. args: 'register', 'commit' or 'rewind', the position's name, the
-- id, then the names of the streams.
register('@LIB@_move_position', function(keys, args)
  local positions, marks, action, name, id = keys[1], keys[2], args[1], args[2], args[3]
  for i = 1, 2 do
    local t = type_of(keys[i])
    if t ~= 'none' and t ~= 'hash' then return { 'wrongtype', keys[i] } end
  end
  local last, fields = run('GET', keys[3]) or '0-0', {}
  for i = 4, #keys do
    local ended = last_id(keys[i])
    if reaches(ended, last) then last = ended end
    fields[i - 3] = name .. ' ' .. args[i]
  end
  if not reaches(last, id) then return { 'beyond', last } end
  local found, moves = values_of(positions, fields, #fields), {}
  for i = 1, #keys - 3 do
    local stream, field = args[i + 3], name .. ' ' .. args[i + 3]
    local at = position_of(found[i])
    if found[i] and not at then return { 'unreadable', field } end
    if not at and action ~= 'register' then return { 'unregistered', stream } end
    local back = at and not reaches(id, at)
    if back and action == 'register' then return { 'ahead', stream, at } end
    if action == 'register' or (back and action == 'rewind') then
      local first = trimmed_after(marks, stream, id)
      if first then return { 'trimmed', stream, first } end
    end
    local forward = not at or not reaches(at, id)
    if (action == 'rewind' and back) or (action ~= 'rewind' and forward) then moves[#moves + 1] = field end
  end
  local time = run('TIME')
  local value = id .. ' ' .. time[1] .. format('%03d', floor(tonumber(time[2]) / 1000))
  for _, field in ipairs(moves) do run('HSET', positions, field, value) end
  return { 'ok' }
end)

-- Removes positions where they are as they were seen; those that are gone already count as removed.
-- keys: positions. args: the position's name, then for each stream its name and the position that was seen.
register('@LIB@_remove_position', function(keys, args)
  for i = 2, #args, 2 do
    local found = run('HGET', keys[1], args[1] .. ' ' .. args[i])
    if found and position_of(found) ~= args[i + 1] then
      return { 'moved', args[i], position_of(found) or found }
    end
  end
  for i = 2, #args, 2 do run('HDEL', keys[1], args[1] .. ' ' .. args[i]) end
  return { 'ok' }
end)
