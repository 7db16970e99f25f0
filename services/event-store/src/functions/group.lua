-- What the functions of a group share.
-- Invariant: an entry belongs to the consumer that the server has it pending for, and to nobody else.

-- unpack() and the server's argument vector are bounded; longer lists go in parts of this many.
local PART = 1000

-- The consumer that the entry is pending for, or false; false too when the group is gone.
local function owner(stream, group, id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if pending.err or #pending == 0 then return false end
  return pending[1][2]
end

-- Which of these ids (ascending) are pending for the consumer, as a set. One question for all; what
-- a crowded range hides is asked for by itself.
local function held(stream, group, consumer, ids)
  local mine = {}
  if #ids > 2 then
    local found = redis.pcall('XPENDING', stream, group, ids[1], ids[#ids], 2 * #ids, consumer)
    if found.err then return mine end
    for _, p in ipairs(found) do mine[p[1]] = true end
  end
  for _, id in ipairs(ids) do
    if not mine[id] then mine[id] = owner(stream, group, id) == consumer end
  end
  return mine
end

-- HMGET of any number of fields, as a table by field.
local function values_of(key, fields)
  local values = {}
  for from = 1, #fields, PART do
    local to = math.min(from + PART - 1, #fields)
    local found = redis.call('HMGET', key, unpack(fields, from, to))
    for i = from, to do values[fields[i]] = found[i - from + 1] end
  end
  return values
end

-- The groups of a stream with their fields in XINFO GROUPS; none when the stream is not there.
local function groups_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
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
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then return '0-0' end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end

-- A decimal number, written as text, less one. Exact however long it is.
local function less_one(digits)
  local head, last, zeros = string.match(digits, '^(%d-)([1-9])(0*)$')
  local text = head .. tostring(tonumber(last) - 1) .. string.rep('9', #zeros)
  return string.match(text, '^0*(%d+)$')
end

-- The largest id below this one.
local function id_before(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. less_one(seq) end
  if ms == '0' then return id end
  return less_one(ms) .. '-18446744073709551615'
end

-- The entry was delivered to the group, and is neither pending nor yet to come: somebody removed it
-- or acknowledged it by hand. Whoever waits for it would wait for ever.
local function is_gone(stream, group, id, info)
  if owner(stream, group, id) then return false end
  if reaches(info['last-delivered-id'], id) then return true end
  return #redis.call('XRANGE', stream, id, id) == 0
end
