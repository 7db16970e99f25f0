-- What all programs of a store have in common, kept where each of them asks.
-- The settings' hash holds 'layout'; 'dedup_window_ms', and 'dedup_rules' once that was changed; for each kind of
-- entities 'kind:NAME', how its cache is written; and 'revision', which counts the changes of those.
-- Invariant: generations of event ids follow each other without a gap however the window changes, and an id is
-- remembered for at least the window of the moment in which it was appended.

-- The window and its rules, '<ms> <since> <first> <changes>[ <ms> <since> <first>]': from the time `since` on a generation
-- lasts `ms`, and the one that begins then has the number `first`. The second three hold until then.
local rules_of = once(function(text)
  local ms, since, first, changes, rest = match(text, '^(%d+) (%d+) (%d+) (%d+)(.*)$')
  local rules = { ms = tonumber(ms), since = tonumber(since), first = tonumber(first), changes = tonumber(changes) }
  ms, since, first = match(rest, '^ (%d+) (%d+) (%d+)$')
  if ms then rules.before = { ms = tonumber(ms), since = tonumber(since), first = tonumber(first) } end
  return rules
end)

local function rules_in(window, rules)
  return rules_of(window .. ' ' .. (rules or '0 0 0'))
end

local function generation_at(rules, now)
  local rule = rules.before and now < rules.since and rules.before or rules
  return rule.first + floor((now - rule.since) / rule.ms)
end

local function beginning_of_generation(rules, generation)
  local rule = rules.before and generation < rules.first and rules.before or rules
  return rule.since + (generation - rule.first) * rule.ms
end

-- The log's own time (ms): it never steps back.
local function time_of_log(clock)
  local time = run('TIME')
  local now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  return max(now, tonumber(match(run('GET', clock) or '0-0', '^(%d+)')))
end

-- A program that connects: what is not settled yet is settled as it says.
-- keys: settings. args: layout, window (ms). Answers what is settled.
register('@LIB@_agree', function(keys, args)
  local found = run('HMGET', keys[1], 'layout', 'dedup_window_ms')
  if not found[1] then run('HSET', keys[1], 'layout', args[1]) end
  if not found[2] then run('HSET', keys[1], 'dedup_window_ms', args[2]) end
  return { found[1] or args[1], found[2] or args[2] }
end)

-- Changes the window. A longer one holds at once. A shorter one holds from the generation after the next one on: until
-- then the ids of before have their time.
-- keys: settings, clock. args: window (ms), and what it must be now for the change to be made ('' for not settled yet).
-- Answers since when (ms) it holds; 'pending' and when an earlier change will; or 'changed'.
register('@LIB@_set_window', function(keys, args)
  local found, now = run('HMGET', keys[1], 'dedup_window_ms', 'dedup_rules'), time_of_log(keys[2])
  if args[2] and args[2] ~= (found[1] or '') then return { 'changed' } end
  if not found[1] then
    -- A family that was never appended to.
    run('HSET', keys[1], 'dedup_window_ms', args[1])
    return { 'ok', format('%.0f', now) }
  end
  local rules, ms = rules_in(found[1], found[2]), tonumber(args[1])
  if rules.before and now < rules.since then
    if rules.ms == ms then return { 'ok', format('%.0f', rules.since) } end
    return { 'pending', format('%.0f', rules.since) }
  end
  if rules.ms == ms then return { 'ok', format('%.0f', now) } end
  local generation, since, text = generation_at(rules, now), now, nil
  if ms > rules.ms then
    text = format('%.0f %.0f %d', since, generation, rules.changes + 1)
  else
    since = beginning_of_generation(rules, generation + 2)
    text = format('%.0f %.0f %d %.0f %.0f %.0f', since, generation + 2, rules.changes + 1, rules.ms, rules.since, rules.first)
  end
  run('HSET', keys[1], 'dedup_window_ms', args[1], 'dedup_rules', text)
  return { 'ok', format('%.0f', since) }
end)

-- Writes how a kind's cache is kept, if that is still as the caller saw it. Indexes that go or come are empty from then on.
-- keys: settings, the kind's set of ids, those indexes. args: field, as seen ('' for nothing), as it becomes while the kind
-- has no entities, and while it has some. Answers 'ok', or 'changed'.
register('@LIB@_set_kind', function(keys, args)
  if (run('HGET', keys[1], args[1]) or '') ~= args[2] then return { 'changed' } end
  run('HSET', keys[1], args[1], run('EXISTS', keys[2]) == 1 and args[4] or args[3])
  run('HINCRBY', keys[1], 'revision', 1)
  for i = 3, #keys do run('DEL', keys[i]) end
  return { 'ok' }
end)

-- Puts entities into an index, by what their hashes say now. One that is not live has no hash.
-- keys: index, hashes. args: field, the entities' ids.
register('@LIB@_index', function(keys, args)
  for i = 2, #args do
    local value = run('HGET', keys[i], args[1])
    if value then run('ZADD', keys[1], 0, value .. '\0' .. args[i]) end
  end
  return { 'ok' }
end)

-- The window of families that are used for the first time.
-- keys: settings of the store. args: window (ms).
register('@LIB@_settle_window', function(keys, args)
  run('HSET', keys[1], 'dedup_window_ms', args[1])
  return { 'ok' }
end)
