-- Leases and nodes.

-- Takes a partition: node, highest number any node had, numbers of the nodes that live. Answers
-- {0 holder}, or {epoch left last} and number and attempts of each message that was counted.
-- `left` is 1 when the last owner let go in order; if not, it is minus that owner's number.
local function acquire(keys, args)
  local p, me = keys[1], args[1]
  local lease = redis.call('HMGET', p .. ':lease', 'owner', 'epoch', 'clean')
  local owner = lease[1] or '0'
  if owner ~= '0' and owner ~= me then
    if tonumber(owner) > tonumber(args[2]) then return { 0, tonumber(owner) } end
    for i = 3, #args do
      if args[i] == owner then return { 0, tonumber(owner) } end
    end
  end
  local epoch = num(lease[2]) + 1
  redis.call('HSET', p .. ':lease', 'owner', me, 'epoch', str(epoch), 'clean', '0', 'serial', '0')
  local clean = owner == '0' and lease[3] ~= '0'
  redis.call('DEL', p .. ':crowd')
  local answer = { epoch, clean and 1 or -tonumber(owner), num(redis.call('HGET', p .. ':counts', 'last')) }
  for _, value in ipairs(redis.call('HGETALL', p .. ':attempts')) do answer[#answer + 1] = tonumber(value) end
  return answer
end

-- Lets a partition go in order: epoch.
local function release(keys, args)
  local p = keys[1]
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return 0 end
  redis.call('HSET', p .. ':lease', 'owner', '0', 'clean', '1')
  return 1
end

-- keys[1] of the next five is greenroom:{nodes}. A member is its beat, a space, and what it says.
local function join(keys, args)
  local node = redis.call('INCR', keys[1] .. ':next')
  redis.call('HSET', keys[1] .. ':members', str(node), '1 ' .. args[1])
  return node
end

-- node, beat, what it says. Answers the highest number any node had, then number and beat of each.
local function beat(keys, args)
  if redis.call('HEXISTS', keys[1] .. ':members', args[1]) == 0 then return redis.error_reply('LOST this node was given up') end
  redis.call('HSET', keys[1] .. ':members', args[1], args[2] .. ' ' .. args[3])
  local answer = redis.call('HGETALL', keys[1] .. ':members')
  table.insert(answer, 1, redis.call('GET', keys[1] .. ':next'))
  return answer
end

-- Removes a node whose beat is still the one that was seen: node, beat.
local function give_up(keys, args)
  local member = redis.call('HGET', keys[1] .. ':members', args[1])
  if not member then return 1 end
  if member:match('^(%d+) ') ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1] .. ':members', args[1])
end

-- number and beat of each.
local function members(keys)
  return redis.call('HGETALL', keys[1] .. ':members')
end

local function leave(keys, args)
  return redis.call('HDEL', keys[1] .. ':members', args[1])
end

-- keys[1] of the next three is greenroom:{meta}. Pauses a kind or a key: what, when, how many there may be.
-- 0 when it was paused already, -1 when there would be too many.
local function pause(keys, args)
  local paused = keys[1] .. ':paused'
  if redis.call('HEXISTS', paused, args[1]) == 1 then return 0 end
  if redis.call('HLEN', paused) >= tonumber(args[3]) then return -1 end
  return redis.call('HSET', paused, args[1], args[2])
end

local function resume(keys, args)
  return redis.call('HDEL', keys[1] .. ':paused', args[1])
end

-- What, and since when, of each.
local function paused(keys)
  return redis.call('HGETALL', keys[1] .. ':paused')
end
