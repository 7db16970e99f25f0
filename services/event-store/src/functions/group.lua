-- What the functions of a group share.
-- Invariant: an entry belongs to the consumer that the server has it pending for, and to nobody else.

-- unpack() and the server's argument vector are bounded; longer lists go in parts of this many.
local PART = 1000

-- The consumer that the entry is pending for, or false; false too when the group is gone.
local function owner(stream, group, id)
  local pending = try('XPENDING', stream, group, id, id, 1)
  if pending.err or #pending == 0 then return false end
  return pending[1][2]
end

-- Which of these ids (ascending) are pending for the consumer: true at the place of each that is. Those
-- that stand together are asked for together; each question is as long as the last one was worth.
local function held(stream, group, consumer, ids)
  local mine, at, count, most = {}, 1, #ids, #ids
  while at <= count do
    local found = try('XPENDING', stream, group, ids[at], ids[count], most, consumer)
    if found.err then return mine end
    local hits = 0
    for i = 1, #found do
      local id = found[i][1]
      while ids[at] ~= id and at <= count and reaches(id, ids[at]) do at = at + 1 end
      if ids[at] == id then
        mine[at], at, hits = true, at + 1, hits + 1
      end
    end
    if #found < most then return mine end
    most = max(1, 2 * hits)
  end
  return mine
end

-- HMGET of any number of fields.
local function values_of(key, fields, count)
  if count == 0 then return fields end
  if count <= PART then return run('HMGET', key, unpack(fields, 1, count)) end
  local values = {}
  for from = 1, count, PART do
    local found = run('HMGET', key, unpack(fields, from, min(from + PART - 1, count)))
    for i = 1, #found do values[from + i - 1] = found[i] end
  end
  return values
end

-- The groups of a stream with their fields in XINFO GROUPS; none when the stream is not there.
local function groups_of(stream)
  local groups = try('XINFO', 'GROUPS', stream)
  if groups.err then return {} end
  for n, g in ipairs(groups) do
    local info = {}
    for i = 1, #g, 2 do info[g[i]] = g[i + 1] end
    groups[n] = info
  end
  return groups
end

-- A group's fields, or nothing when the stream or the group is not there.
local function info_of(stream, group)
  for _, info in ipairs(groups_of(stream)) do
    if info.name == group then return info end
  end
end

-- The last id that was ever in the stream.
local function last_id(stream)
  local info = try('XINFO', 'STREAM', stream)
  if info.err then return '0-0' end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end

-- A decimal number, written as text, less one. Exact however long it is.
local function less_one(digits)
  local head, last, zeros = match(digits, '^(%d-)([1-9])(0*)$')
  local text = head .. tostring(tonumber(last) - 1) .. rep('9', #zeros)
  return match(text, '^0*(%d+)$')
end

-- The largest id below this one.
local function id_before(id)
  local ms, seq = match(id, '^(%d+)%-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. less_one(seq) end
  if ms == '0' then return id end
  return less_one(ms) .. '-18446744073709551615'
end

-- The entry was delivered to the group, and is neither pending nor yet to come: somebody removed it
-- or acknowledged it by hand. Whoever waits for it would wait for ever.
local function is_gone(stream, group, id, info)
  if owner(stream, group, id) then return false end
  if reaches(info['last-delivered-id'], id) then return true end
  return #run('XRANGE', stream, id, id) == 0
end
