-- Limits. keys[1] is one of the sixteen prefixes greenroom:{limit-07}, by the digest that is its name: so
-- limits are spread over the servers, and what is asked of one prefix at once is one call. A name is 32
-- hexadecimal digits.
--
--   :<name>       string  two numbers, with PEXPIRE, so that idle buckets cost nothing. Of a rate: what is
--                         owed (missing tokens times the rate's milliseconds), and when that was so. Of a
--                         quota: what is used, and the number of its window
--   :<name>:in    zset    holder → until when it has a permit
--   :<name>:line  zset    holder → since when it waits for one
--   :<name>:here  zset    holder → until when it is thought to wait
--
-- The same counting as in src/backend/bucket.rs, where its reasons are.

-- How long something is kept after it is of no use, in milliseconds: a little more than clocks step.
local KEPT = 60000

-- Redis' own clock, unless a test gives another: the nodes' clocks differ.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function counted(key)
  local first, second = (redis.call('GET', key) or ''):match('^(%d+) (%d+)$')
  return tonumber(first), tonumber(second)
end

local function count(key, first, second, ttl)
  redis.call('SET', key, str(first) .. ' ' .. str(second), 'PX', str(ttl + KEPT))
end

local function evenly(key, now, cost, ahead, patience, tokens, per, burst)
  local owed, at = counted(key)
  owed = math.max(0, (owed or 0) - math.max(0, now - (at or now)) * tokens)
  local full, given, wait = burst * per, 0, 0
  local need = owed + cost * per
  if need <= full then
    given = cost + math.min(ahead, math.max(0, math.floor((math.floor(full / 2) - need) / per)))
    owed = owed + given * per
  else
    wait = math.ceil((need - full) / tokens)
    if wait <= patience then
      given = cost
      owed = need
    end
  end
  local resets = math.ceil(owed / tokens)
  if given > 0 then count(key, owed, now, resets) end
  return given, wait, math.max(0, math.floor((full - owed) / per)), resets
end

local function by_windows(key, now, cost, ahead, patience, most, window)
  local current = math.floor(now / window)
  local used, first = counted(key)
  if not used or first > current + 1 then
    used, first = 0, current
  elseif first <= current then
    used, first = math.max(0, used - most * (current - first)), current
  end
  local function ends(windows) return math.max(0, (first + windows) * window - now) end
  local start, given = used, 0
  if used % most + cost > most then start = (math.floor(used / most) + 1) * most end
  local wait = start < most and 0 or ends(math.floor(start / most))
  if wait == 0 then
    given = cost + math.min(ahead, math.max(0, math.floor(most / 2) - start - cost))
  elseif wait <= patience then
    given = cost
  end
  if given > 0 then used = start + given end
  local resets = ends(math.max(1, math.ceil(used / most)))
  if given > 0 then count(key, used, first, resets) end
  return given, wait, math.max(0, most - used), resets
end

-- now, and of each wish: name, r or q, cost, ahead, patience, and tokens per burst, or most window 0.
-- Answers four numbers for each.
local function limit_take(keys, args)
  local now, answer = clock(args[1]), {}
  for i = 2, #args, 8 do
    local key, n = keys[1] .. ':' .. args[i], {}
    for j = 2, 7 do n[j] = tonumber(args[i + j]) end
    local how = args[i + 1] == 'r' and evenly or by_windows
    for _, number in ipairs({ how(key, now, n[2], n[3], n[4], n[5], n[6], n[7]) }) do answer[#answer + 1] = number end
  end
  return answer
end

local function sweep_permits(key, now)
  redis.call('ZREMRANGEBYSCORE', key .. ':in', '-inf', str(now))
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', key .. ':here', '-inf', str(now))) do
    redis.call('ZREM', key .. ':line', holder)
    redis.call('ZREM', key .. ':here', holder)
  end
end

-- Lets the node of whoever is first in line ask again. A holder is <node>-<anything>.
local function next_in_line(prefix, name)
  local first = redis.call('ZRANGE', prefix .. ':' .. name .. ':line', 0, 0)[1]
  local node = first and first:match('^(%d+)%-')
  if node then redis.call('PUBLISH', prefix:match('^(.*):{') .. ':node:' .. node, 'l' .. name) end
end

-- now, name, holder, how many there are, lease, since when it waits or '', patience. Answers {1}, or {0,
-- since when it waits, in how many milliseconds the first permit comes free by itself or -1}.
local function limit_enter(keys, args)
  local now, name, holder = clock(args[1]), args[2], args[3]
  local most, lease, patience = tonumber(args[4]), tonumber(args[5]), tonumber(args[7])
  local key = keys[1] .. ':' .. name
  sweep_permits(key, now)
  local since = tonumber(args[6]) or now
  local free = most - redis.call('ZCARD', key .. ':in')
  local place = redis.call('ZRANK', key .. ':line', holder)
  local before = place or redis.call('ZCOUNT', key .. ':line', '-inf', str(since))
  local held = redis.call('ZSCORE', key .. ':in', holder)
  if held or before < free then
    redis.call('ZADD', key .. ':in', str(now + lease), holder)
    redis.call('PEXPIRE', key .. ':in', str(lease + KEPT))
    redis.call('ZREM', key .. ':line', holder)
    redis.call('ZREM', key .. ':here', holder)
    if not held and free > 1 then next_in_line(keys[1], name) end
    return { 1 }
  end
  if patience > 0 then
    if not place then redis.call('ZADD', key .. ':line', str(since), holder) end
    redis.call('ZADD', key .. ':here', str(now + patience), holder)
    redis.call('PEXPIRE', key .. ':line', str(patience + KEPT))
    redis.call('PEXPIRE', key .. ':here', str(patience + KEPT))
  end
  local first = redis.call('ZRANGE', key .. ':in', 0, 0, 'WITHSCORES')[2]
  return { 0, since, first and math.max(0, tonumber(first) - now) or -1 }
end

-- now, and of each permit: name, holder, lease. Answers 1 for each that is still held.
local function limit_renew(keys, args)
  local now, answer = clock(args[1]), {}
  for i = 2, #args, 3 do
    local permits, lease = keys[1] .. ':' .. args[i] .. ':in', tonumber(args[i + 2])
    local until_when = tonumber(redis.call('ZSCORE', permits, args[i + 1]) or 0)
    answer[#answer + 1] = until_when > now and 1 or 0
    if until_when > now then
      redis.call('ZADD', permits, str(now + lease), args[i + 1])
      redis.call('PEXPIRE', permits, str(lease + KEPT))
    end
  end
  return answer
end

-- now, name, holder.
local function limit_leave(keys, args)
  local key = keys[1] .. ':' .. args[2]
  for _, what in ipairs({ ':in', ':line', ':here' }) do redis.call('ZREM', key .. what, args[3]) end
  sweep_permits(key, clock(args[1]))
  next_in_line(keys[1], args[2])
  return 1
end

