-- Moves an entry of a group to the group's dead letters, and back.
-- Invariant: an unfinished entry is either pending in its group (or yet to be delivered) or one dead
-- letter, never both and never neither; parking twice is parking once. All its fields are kept byte
-- for byte. A dead letter goes back only when no earlier event of its ordering keys is one; and what was to
-- be parked because of a letter is not when that has gone back meanwhile.

-- keys: stream, positions, dead letters, index of the letters. args: group, consumer, id, stream's
-- name, reason, attempts, for how long it has been failing (ms), the ordering keys, one a line, the
-- earlier events as 'stream id', one a line, why (own: for that reason; letter: it is one; behind: an
-- earlier one is), then the positions' fields.
register('@LIB@_park', function(keys, args)
  local group, consumer, id, name = args[1], args[2], args[3], args[4]
  local field = name .. ' ' .. id
  local holder = owner(keys[1], group, id)
  local function acknowledged(answer)
    if holder == consumer then run('XACK', keys[1], group, id) end
    return { answer }
  end
  if run('HEXISTS', keys[4], field) == 1 then return acknowledged('ok') end
  local finished = #args > 10
  for i = 11, #args do
    if not reaches(run('HGET', keys[2], args[i]), id) then finished = false end
  end
  if finished then return acknowledged('already') end
  if holder ~= consumer then return { 'fenced' } end
  local stays = args[10] == 'own'
  if args[10] == 'behind' then
    for before in gmatch(args[9], '[^\n]+') do stays = stays or run('HEXISTS', keys[4], before) == 1 end
  end
  if not stays then return { 'free' } end
  local letters = type_of(keys[3])
  if letters ~= 'none' and letters ~= 'stream' then return { 'wrongtype', keys[3] } end
  local time = run('TIME')
  local now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  local entry = {
    'stream', name, 'id', id, 'reason', args[5], 'attempts', args[6],
    'first_failure', format('%.0f', now - tonumber(args[7])), 'last_failure', format('%.0f', now),
    'keys', args[8], 'before', args[9],
  }
  local found = run('XRANGE', keys[1], id, id)
  if #found == 1 then
    for i = 1, #found[1][2], 2 do
      entry[#entry + 1] = 'raw.' .. found[1][2][i]
      entry[#entry + 1] = found[1][2][i + 1]
    end
  end
  -- More do not fit into one call. What was written by another program stays in the log.
  if #entry > 6000 then entry = { unpack(entry, 1, 16) } end
  local letter = run('XADD', keys[3], '*', unpack(entry))
  run('HSET', keys[4], field, letter)
  run('XACK', keys[1], group, id)
  return { 'ok' }
end)

-- Gives dead letters back to their group: pending again, and so old that the next consumer that
-- looks for entries of the dead claims them. The durable cursor goes back with them, so a group that
-- is lost before they are handled delivers them again.
-- keys: dead letters, index of the letters, cursors, then the streams. args: group, '1' to count only,
-- then for each letter, in the order of the entries' ids: letter, index of its stream's key.
-- Answers how many went back, how many stay behind an earlier one, and of how many the entry is gone
-- from the log. One that is no dead letter any more is passed over.
register('@LIB@_unpark', function(keys, args)
  local group, count_only = args[1], args[2] == '1'
  for i = 4, #keys do
    if not info_of(keys[i], group) then return { 'nogroup', keys[i] } end
  end
  local moved, behind, lost, gone = 0, 0, 0, {}
  for at = 3, #args, 2 do
    local found = run('XRANGE', keys[1], args[at], args[at])
    if #found == 1 then
      local letter, stream = {}, keys[tonumber(args[at + 1])]
      for i = 1, #found[1][2], 2 do letter[found[1][2][i]] = found[1][2][i + 1] end
      local id, name, waits = letter.id, letter.stream, false
      for before in gmatch(letter.before, '[^\n]+') do
        if not gone[before] and run('HEXISTS', keys[2], before) == 1 then waits = true end
      end
      if waits then
        behind = behind + 1
      elseif #run('XRANGE', stream, id, id) == 0 then
        lost = lost + 1
      else
        moved = moved + 1
        gone[name .. ' ' .. id] = true
        if not count_only then
          run('XCLAIM', stream, group, 'replay', 0, id, 'IDLE', 86400000, 'FORCE', 'JUSTID')
          local cursor = run('HGET', keys[3], name)
          if cursor and reaches(cursor, id) then run('HSET', keys[3], name, id_before(id)) end
          run('XDEL', keys[1], args[at])
          run('HDEL', keys[2], name .. ' ' .. id)
        end
      end
    end
  end
  return { 'ok', moved, behind, lost }
end)
