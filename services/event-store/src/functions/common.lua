-- Shared by all functions of the library.
-- Invariant: ids are compared as two numbers, never as texts ('9-1' < '10-0').

local function split_id(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Is the id a at or after the id b? A missing a is before everything.
local function reaches(a, b)
  if not a then return false end
  local a_ms, a_seq = split_id(a)
  local b_ms, b_seq = split_id(b)
  return a_ms > b_ms or (a_ms == b_ms and a_seq >= b_seq)
end

-- Sorts like the id when compared byte by byte.
local function padded(id)
  local ms, seq = split_id(id)
  return string.format('%016.0f-%020.0f', ms, seq)
end

local function type_of(key)
  local t = redis.call('TYPE', key)
  return t.ok or t
end

-- The consumer that the entry is pending for, or false; false too when the group is gone.
local function owner(stream, group, id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if pending.err or #pending == 0 then return false end
  return pending[1][2]
end
