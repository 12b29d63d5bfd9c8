-- Leases and nodes.

-- Takes a partition: node, its token, highest number any node had, the epoch and limit that MongoDB gave, then
-- number and token of the nodes that live. A node is its number and its token: a number may have been given
-- twice by a server that was rolled back. Answers {0 holder}, {-1 epoch} when the epoch is not above the last
-- one, or {epoch left last era}, and number and attempts of each message that was counted. 'left' is 1 when the
-- last owner let go in order; if not, it is minus that owner's number.
local function acquire(keys, args)
  local p, me, token = keys[1], args[1], args[2]
  local head = open_book(p, 'token', 'clean', 'former')
  local refused = barred(p, head)
  if refused then return refused end
  local owner, former, alive = head.owner, 0, {}
  if owner ~= 0 then former = owner == tonumber(me) and head.token == token and 1 or 2 end
  for i = 6, #args, 2 do alive[args[i + 1]] = args[i] end
  if former == 2 then
    if owner > tonumber(args[3]) or alive[head.token] == str(owner) then return { 0, owner } end
  end
  if tonumber(args[4]) <= head.epoch then return { -1, head.epoch } end
  alive[token] = me
  for _, field in ipairs(redis.call('HKEYS', p .. ':head')) do
    if field:match('^n%d+$') and not alive[field:sub(2)] then redis.call('HDEL', p .. ':head', field) end
  end
  head.limit = math.max(head.limit, tonumber(args[5]))
  head.owner, head.epoch, head.serial = tonumber(me), tonumber(args[4]), 0
  close_book(p, head, { 'token', token, 'clean', '0' })
  local clean = former == 0 and head.clean ~= '0'
  redis.call('DEL', p .. ':crowd')
  local left = clean and 1 or -(former > 0 and owner or num(head.former))
  local answer = { tonumber(args[4]), left, head.last, head.era }
  for _, value in ipairs(redis.call('HGETALL', p .. ':attempts')) do answer[#answer + 1] = tonumber(value) end
  return answer
end

-- Lets a partition go in order: epoch.
local function release(keys, args)
  local p = keys[1]
  local head = open_book(p)
  if barred(p, head, args[1]) then return 0 end
  head.owner = 0
  close_book(p, head, { 'token', '', 'clean', '1' })
  return 1
end

-- KEYS[1] of the next five is greenroom:{nodes}. A member is its beat, a space, its token, a space, and what it
-- says.

-- Joins: token, what it says. A number that a member has is not given again, wherever the count was set back to.
-- A call that comes again is answered again.
local function join(keys, args)
  local members = keys[1] .. ':members'
  local all = redis.call('HGETALL', members)
  for i = 1, #all, 2 do
    if all[i + 1]:match('^%d+ (%d+) ') == args[1] then return tonumber(all[i]) end
  end
  local node
  repeat node = redis.call('INCR', keys[1] .. ':next') until redis.call('HEXISTS', members, str(node)) == 0
  redis.call('HSET', members, str(node), '1 ' .. args[1] .. ' ' .. args[2])
  return node
end

-- node, token, beat, what it says, and the highest number of an owner that it has met: where the count was lost, it
-- is as high again. Answers the highest number any node had, then number and member of each.
local function beat(keys, args)
  local member = redis.call('HGET', keys[1] .. ':members', args[1])
  if not member or member:match('^%d+ (%d+) ') ~= args[2] then return redis.error_reply('LOST this node was given up') end
  redis.call('HSET', keys[1] .. ':members', args[1], args[3] .. ' ' .. args[2] .. ' ' .. args[4])
  local count = keys[1] .. ':next'
  if tonumber(args[5]) > num(redis.call('GET', count)) then redis.call('SET', count, args[5]) end
  local answer = redis.call('HGETALL', keys[1] .. ':members')
  table.insert(answer, 1, redis.call('GET', count))
  return answer
end

-- Removes a node whose beat is still the one that was seen: node, beat.
local function give_up(keys, args)
  local member = redis.call('HGET', keys[1] .. ':members', args[1])
  if not member then return 1 end
  if member:match('^(%d+) ') ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1] .. ':members', args[1])
end

-- number and member of each.
local function members(keys)
  return redis.call('HGETALL', keys[1] .. ':members')
end

-- node, token.
local function leave(keys, args)
  local member = redis.call('HGET', keys[1] .. ':members', args[1])
  if not member or member:match('^%d+ (%d+) ') ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1] .. ':members', args[1])
end

-- KEYS[1] of the next three is greenroom:{meta}. Pauses a kind or a key: what, when, how many there may be.
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
