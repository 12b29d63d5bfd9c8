-- Sessions. keys[1] of these is the prefix of a drawer, such as greenroom:{s0042}; all sessions of a user are
-- in one. Times are those of the nodes; those of Redis only remove what is over.
--
--   :id:<name>   string  {until rev digest created seen ends issued user agent data former nonce grace}, or
--                        {until} of one that was replaced. Nobody's user and no former secret are empty
--   :of:<user>   zset    created → name; of nobody: those of the drawer
--   :era:<user>  string  changes whenever all of them are ended
local session = {}

-- What is there under a name and not over, or nil; whether it is live; and its bytes.
function session.get(p, name, now)
  local packed = redis.call('GET', p .. ':id:' .. name)
  local s = packed and cmsgpack.unpack(packed)
  if s and s[1] > now then return s, #s > 1, packed end
end

-- Redis removes it when it is over.
function session.put(p, name, now, s)
  redis.call('SET', p .. ':id:' .. name, cmsgpack.pack(s), 'PX', str(math.max(s[1] - now, 1)))
end

-- It is used: now, until.
function session.use(p, name, s, now, to)
  s[1], s[5] = tonumber(to), now
  session.put(p, name, now, s)
end

-- Ends the oldest sessions until there is room for one more; how many. Nobody's are many, so some room more is
-- made than is asked for.
function session.room(p, user, most, now)
  local set, live, more = p .. ':of:' .. user, {}, 0
  if redis.call('ZCARD', set) < most then return 0 end
  for _, name in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    if session.get(p, name, now) then live[#live + 1] = name else redis.call('ZREM', set, name) end
  end
  if #live < most then return 0 end
  if user == '' then more = math.floor(most / 10) end
  local over = #live + 1 - most + more
  for n = 1, over do
    redis.call('DEL', p .. ':id:' .. live[n])
    redis.call('ZREM', set, live[n])
  end
  return over
end

-- name, most, era (or empty), session.
function session.open(keys, args)
  local p, name, s = keys[1], args[1], cmsgpack.unpack(args[4])
  local user, now, ends = s[8], s[5], s[6]
  if args[3] ~= '' and (redis.call('GET', p .. ':era:' .. user) or '0') ~= args[3] then return { 'revoked' } end
  local over, set = session.room(p, user, tonumber(args[2]), now), p .. ':of:' .. user
  redis.call('ZADD', set, str(s[4]), name)
  if redis.call('PTTL', set) < ends - now then redis.call('PEXPIRE', set, str(ends - now)) end
  session.put(p, name, now, s)
  return { 'opened', over }
end

-- name, rev, now, until, data.
function session.write(keys, args)
  local now = tonumber(args[3])
  local s, live, packed = session.get(keys[1], args[1], now)
  if not live then return { 'gone' } end
  if s[2] ~= tonumber(args[2]) then return { 'conflict', packed } end
  s[2], s[10] = s[2] + 1, args[5]
  session.use(keys[1], args[1], s, now, args[4])
  return { 'changed' }
end

-- name, now, until.
function session.touch(keys, args)
  local now = tonumber(args[2])
  local s, live = session.get(keys[1], args[1], now)
  if not live then return 0 end
  session.use(keys[1], args[1], s, now, args[3])
  return 1
end

-- name, digest it has, now, until, digest it gets, since, and if the one before has a grace its nonce and end.
function session.renew(keys, args)
  local now = tonumber(args[3])
  local s, live, packed = session.get(keys[1], args[1], now)
  if not live then return { 'gone' } end
  if s[3] ~= args[2] then return { 'conflict', packed } end
  s[3], s[7] = args[5], tonumber(args[6])
  if args[7] then s[11], s[12], s[13] = args[2], args[7], tonumber(args[8]) else s[11], s[12], s[13] = '', '', 0 end
  session.use(keys[1], args[1], s, now, args[4])
  return { 'changed' }
end

-- name, user (or empty: whose it is), mark, now. How it was, or empty.
function session.finish(keys, args)
  local p, name, mark, now = keys[1], args[1], tonumber(args[3]), tonumber(args[4])
  local s, live, packed = session.get(p, name, now)
  if not live or (args[2] ~= '' and s[8] ~= args[2]) then return '' end
  redis.call('ZREM', p .. ':of:' .. s[8], name)
  if mark > 0 then session.put(p, name, now, { now + mark }) else redis.call('DEL', p .. ':id:' .. name) end
  return packed
end

-- Ends all of a user: user, name of the one that stays (or empty), now, how long the era is kept. How many.
function session.finish_all(keys, args)
  local p, user, now, count = keys[1], args[1], tonumber(args[3]), 0
  local set, era = p .. ':of:' .. user, p .. ':era:' .. user
  for _, name in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    if name ~= args[2] then
      if session.get(p, name, now) then count = count + 1 end
      redis.call('DEL', p .. ':id:' .. name)
      redis.call('ZREM', set, name)
    end
  end
  redis.call('SET', era, str(math.max(now, num(redis.call('GET', era)) + 1)), 'PX', args[4])
  return count
end

-- All of a user: user, now. Name and session of each.
function session.list(keys, args)
  local p, now, answer = keys[1], tonumber(args[2]), {}
  for _, name in ipairs(redis.call('ZRANGE', p .. ':of:' .. args[1], 0, -1)) do
    local s, _, packed = session.get(p, name, now)
    if s then
      answer[#answer + 1] = name
      answer[#answer + 1] = packed
    end
  end
  return answer
end

-- user.
function session.era(keys, args)
  return redis.call('GET', keys[1] .. ':era:' .. args[1]) or '0'
end
