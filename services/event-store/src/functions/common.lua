-- Shared by all functions of the library.
-- Invariant: ids are compared as two numbers, never as texts ('9-1' < '10-0').

local function split_id(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Is the id a at or after the id b? A missing a is before everything. Numbers of Lua are doubles, so
-- the parts are compared as texts: the longer is the larger one, of two as long the later in order.
local function reaches(a, b)
  if not a then return false end
  if a == b then return true end
  -- Of one length, and with as many digits before the dash (its byte is 45) as today's times have.
  if #a == #b and string.byte(a, 14) == 45 and string.byte(b, 14) == 45 then return a > b end
  local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
  if a_ms ~= b_ms then return #a_ms > #b_ms or (#a_ms == #b_ms and a_ms > b_ms) end
  return #a_seq > #b_seq or (#a_seq == #b_seq and a_seq >= b_seq)
end

local function type_of(key)
  local t = redis.call('TYPE', key)
  return t.ok or t
end
