-- Shared by all functions of the library.
-- Invariant: ids are compared as two numbers, never as texts ('9-1' < '10-0').

-- What is global is not there while the library is loaded, and is found slowly by a function. So it is taken
-- when a function runs for the first time.
local function globals()
  return redis.call, redis.pcall, tonumber, type, pairs, ipairs, unpack, string, math, table.concat
end

-- The server's commands: where `run` fails the function ends, `try` answers the error.
local run, try
local tonumber, type, pairs, ipairs, unpack
local match, gmatch, find, sub, format, rep, byte, concat
local floor, min, max

local function register(name, callback, flags)
  redis.register_function{ function_name = name, flags = flags, callback = function(keys, args)
    if not run then
      local string, math
      run, try, tonumber, type, pairs, ipairs, unpack, string, math, concat = globals()
      match, gmatch, find, sub = string.match, string.gmatch, string.find, string.sub
      format, rep, byte = string.format, string.rep, string.byte
      floor, min, max = math.floor, math.min, math.max
    end
    return callback(keys, args)
  end }
end

-- A number as text; small ones are made once.
local small = {}
local function text_of_number(number)
  local text = small[number]
  if not text then
    text = format('%.0f', number)
    if number < 4096 then small[number] = text end
  end
  return text
end

local function split_id(id)
  local ms, seq = match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Is the id a at or after the id b? A missing a is before everything. Numbers of Lua are doubles, so
-- the parts are compared as texts: the longer is the larger one, of two as long the later in order.
local function reaches(a, b)
  if not a then return false end
  if a == b then return true end
  -- Of one length, and with as many digits before the dash (its byte is 45) as today's times have.
  if #a == #b and byte(a, 14) == 45 and byte(b, 14) == 45 then return a > b end
  local a_ms, a_seq = match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = match(b, '^(%d+)%-(%d+)$')
  if a_ms ~= b_ms then return #a_ms > #b_ms or (#a_ms == #b_ms and a_ms > b_ms) end
  return #a_seq > #b_seq or (#a_seq == #b_seq and a_seq >= b_seq)
end

local function type_of(key)
  local t = run('TYPE', key)
  return t.ok or t
end
