-- Sessions. keys[1] of these is the prefix of a drawer, such as greenroom:{s0042}; all sessions of a user are
-- in one. Times are those of the nodes; those of Redis only remove what is over.
--
--   :id:<name>   hash    u c s x e r a d: user created seen until ends rev agent data; h i: digest of the secret,
--                        since when; p n y: digest and nonce of the one before, end of its grace. Only x: replaced
--   :of:<user>   zset    created → name
--   :era:<user>  string  changes whenever all of them are ended
local session = { fields = { 'u', 'c', 's', 'x', 'e', 'r', 'a', 'd', 'h', 'i', 'p', 'n', 'y' } }

-- What is there under a name and not over: the fields, or nil; and whether it is live.
function session.at(p, name, now)
  local v = redis.call('HMGET', p .. ':id:' .. name, unpack(session.fields))
  if v[4] and tonumber(v[4]) > now then return v, v[9] and true end
end

-- Redis removes a key when it is over.
function session.expire(key, time)
  redis.call('PEXPIRE', key, str(math.max(time, 1)))
end

-- It is used: now, until.
function session.use(p, name, now, to)
  redis.call('HSET', p .. ':id:' .. name, 's', now, 'x', to)
  session.expire(p .. ':id:' .. name, tonumber(to) - tonumber(now))
end

-- name, now. {nothing}, {replaced}, or {live fields …}.
function session.find(keys, args)
  local v, live = session.at(keys[1], args[1], tonumber(args[2]))
  if not v then return { 'nothing' } end
  if not live then return { 'replaced' } end
  return { 'live', unpack(v) }
end

-- Ends the oldest sessions of a user until there is room for one more; how many.
function session.room(p, user, most, now)
  local set, live = p .. ':of:' .. user, {}
  if redis.call('ZCARD', set) < most then return 0 end
  for _, name in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    if session.at(p, name, now) then live[#live + 1] = name else redis.call('ZREM', set, name) end
  end
  local over = math.max(#live + 1 - most, 0)
  for n = 1, over do
    redis.call('DEL', p .. ':id:' .. live[n])
    redis.call('ZREM', set, live[n])
  end
  return over
end

-- name, most of a user, era (or empty), user (or empty), created, seen, until, ends, rev, agent, data, digest, since.
function session.open(keys, args)
  local p, name, user, now, over = keys[1], args[1], args[4], tonumber(args[6]), 0
  local key, set = p .. ':id:' .. name, p .. ':of:' .. user
  if user ~= '' then
    if args[3] ~= '' and (redis.call('GET', p .. ':era:' .. user) or '0') ~= args[3] then return { 'revoked' } end
    over = session.room(p, user, tonumber(args[2]), now)
    redis.call('ZADD', set, args[5], name)
    local ends = tonumber(args[8]) - now
    if redis.call('PTTL', set) < ends then session.expire(set, ends) end
    redis.call('HSET', key, 'u', user)
  end
  redis.call('HSET', key, 'c', args[5], 'e', args[8], 'r', args[9], 'a', args[10], 'd', args[11], 'h', args[12], 'i', args[13])
  session.use(p, name, args[6], args[7])
  return { 'opened', over }
end

-- name, rev, now, until, data.
function session.write(keys, args)
  local v, live = session.at(keys[1], args[1], tonumber(args[3]))
  if not live then return { 'gone' } end
  if v[6] ~= args[2] then return { 'conflict', unpack(v) } end
  redis.call('HSET', keys[1] .. ':id:' .. args[1], 'd', args[5], 'r', str(tonumber(v[6]) + 1))
  session.use(keys[1], args[1], args[3], args[4])
  return { 'changed' }
end

-- name, now, until.
function session.touch(keys, args)
  local _, live = session.at(keys[1], args[1], tonumber(args[2]))
  if not live then return 0 end
  session.use(keys[1], args[1], args[2], args[3])
  return 1
end

-- name, digest it has, now, until, digest it gets, since, and if the one before has a grace its nonce and end.
function session.renew(keys, args)
  local v, live = session.at(keys[1], args[1], tonumber(args[3]))
  local key = keys[1] .. ':id:' .. args[1]
  if not live then return { 'gone' } end
  if v[9] ~= args[2] then return { 'conflict', unpack(v) } end
  redis.call('HSET', key, 'h', args[5], 'i', args[6])
  if args[7] then
    redis.call('HSET', key, 'p', args[2], 'n', args[7], 'y', args[8])
  else
    redis.call('HDEL', key, 'p', 'n', 'y')
  end
  session.use(keys[1], args[1], args[3], args[4])
  return { 'changed' }
end

-- name, user (or empty: whose it is), mark, now. How it was, or {}.
function session.finish(keys, args)
  local p, name, mark, now = keys[1], args[1], tonumber(args[3]), tonumber(args[4])
  local v, live = session.at(p, name, now)
  if not live or (args[2] ~= '' and v[1] ~= args[2]) then return {} end
  redis.call('DEL', p .. ':id:' .. name)
  if v[1] then redis.call('ZREM', p .. ':of:' .. v[1], name) end
  if mark > 0 then
    redis.call('HSET', p .. ':id:' .. name, 'x', str(now + mark))
    session.expire(p .. ':id:' .. name, mark)
  end
  return v
end

-- Ends all of a user: user, name of the one that stays (or empty), now, how long the era is kept. How many.
function session.finish_all(keys, args)
  local p, user, now, count = keys[1], args[1], tonumber(args[3]), 0
  local set, era = p .. ':of:' .. user, p .. ':era:' .. user
  for _, name in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    if name ~= args[2] then
      if session.at(p, name, now) then count = count + 1 end
      redis.call('DEL', p .. ':id:' .. name)
      redis.call('ZREM', set, name)
    end
  end
  redis.call('SET', era, str(math.max(now, num(redis.call('GET', era)) + 1)), 'PX', args[4])
  return count
end

-- All of a user: user, now. Name and fields of each, data left out.
function session.list(keys, args)
  local p, now, answer = keys[1], tonumber(args[2]), {}
  for _, name in ipairs(redis.call('ZRANGE', p .. ':of:' .. args[1], 0, -1)) do
    local v = session.at(p, name, now)
    if v then
      v[8] = ''
      table.insert(v, 1, name)
      answer[#answer + 1] = v
    end
  end
  return answer
end

-- user.
function session.era(keys, args)
  return redis.call('GET', keys[1] .. ':era:' .. args[1]) or '0'
end
