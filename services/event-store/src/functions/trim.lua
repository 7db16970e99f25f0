-- Retention: removes the beginning of a stream.
-- Invariant: no entry is removed that a group of this stream has not finished or that comes after a
-- registered position, and of each entity whose last event is removed that event is kept, with its id
-- and its fields, in the same step. So after any number of steps the log and what was kept give the
-- same state of every entity.

-- The marks hold by stream: 'NAME' the first id that stayed, 'NAME last' that id and the last
-- one that went.
-- keys: stream, kept, marks, positions, then a record for each event. args: stream's name, the first id that
-- stays, the last id that goes, then for each event its id and version.
register('@LIB@_trim', function(keys, args)
  local stream, kept, marks, positions, last = keys[1], keys[2], keys[3], keys[4], args[3]
  local function wrong(key, expected)
    local t = type_of(key)
    return t ~= 'none' and t ~= expected
  end
  if wrong(kept, 'stream') then return { 'wrongtype', kept } end
  if wrong(marks, 'hash') then return { 'wrongtype', marks } end
  if wrong(positions, 'hash') then return { 'wrongtype', positions } end
  if type_of(stream) ~= 'stream' then return { 'ok', 0, 0 } end
  for _, info in ipairs(groups_of(stream)) do
    local pending = run('XPENDING', stream, info.name)
    local held = pending[1] > 0 and reaches(last, pending[2])
    if held or not reaches(info['last-delivered-id'], last) then return { 'held', info.name } end
  end
  local position = needed_by_position(positions, args[1], last)
  if position then return { 'position', position } end
  local records, keep = {}, {}
  for i = 5, #keys do
    local id, version = args[2 * i - 6], tonumber(args[2 * i - 5])
    local r = record_of(records, keys[i])
    if not r or r.version < version then return { 'damaged', id } end
    if r.version == version then keep[#keep + 1] = id end
  end
  -- from here on nothing may fail
  local moved = 0
  for _, id in ipairs(keep) do
    local found = run('XRANGE', stream, id, id)
    if #found == 1 then
      run('XADD', kept, id, unpack(found[1][2]))
      moved = moved + 1
    end
  end
  run('HSET', marks, args[1], args[2], args[1] .. ' last', args[2] .. ' ' .. last)
  return { 'ok', run('XTRIM', stream, 'MINID', '=', args[2]), moved }
end)

-- Removes kept events that are not the last of their entity any more.
-- keys: kept, marks, then a record for each event. args: stream's name, then for each event its id
-- and version.
register('@LIB@_sweep', function(keys, args)
  local records, swept = {}, 0
  for i = 3, #keys do
    local r = record_of(records, keys[i])
    if r and r.version > tonumber(args[2 * i - 3]) then
      swept = swept + run('XDEL', keys[1], args[2 * i - 4])
    end
  end
  if swept > 0 then run('HINCRBY', keys[2], args[1] .. ' swept', 1) end
  return { 'ok', swept }
end)

-- How many entries there are from an id to before another, a page at a time.
-- keys: stream. args: first id, the id before which to end, at most.
register('@LIB@_count', function(keys, args)
  local page = run('XRANGE', keys[1], args[1], '(' .. args[2], 'COUNT', args[3])
  return { #page, #page > 0 and page[#page][1] or args[1] }
end, { 'no-writes' })
