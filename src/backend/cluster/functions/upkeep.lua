-- Dead letters, and forgetting.

-- Takes a letter out of the dead ones: {died attempts kind key failures envelope}, or nothing. One that cannot be read
-- stays there.
local function exhume(p, number, head)
  local packed = redis.call('HGET', p .. ':dead', number)
  local letter = packed and record_of(packed, 6)
  if not letter then return nil end
  redis.call('HDEL', p .. ':dead', number)
  redis.call('ZREM', p .. ':deadline', number)
  redis.call('HDEL', p .. ':attempts', number)
  head.dead = head.dead - 1
  return letter
end

-- Puts dead letters back, attempts forgotten: node, partitions, now, numbers. Answers how many.
local function redrive(keys, args)
  local p, now, moved = keys[1], tonumber(args[3]), 0
  local head = open_book(p)
  local refused = barred(p, head) or resized(head.of, args[2])
  if refused then return refused end
  for i = 4, #args do
    local d = exhume(p, args[i], head)
    if d then
      defer(p, tonumber(args[i]), now, 1, d[3], d[4], '', d[6])
      head.bytes = head.bytes + #d[6]
      moved = moved + 1
    end
  end
  close_book(p, head)
  if moved > 0 then wake(p, head.owner, args[1], nil, true) end
  return moved
end

-- Gives dead letters up, each with its journal beside its result: partitions, now, numbers. Answers how many.
local function discard(keys, args)
  local p, now, gone = keys[1], tonumber(args[2]), 0
  local head = open_book(p)
  local refused = barred(p, head) or resized(head.of, args[1])
  if refused then return refused end
  for i = 3, #args do
    local d = exhume(p, args[i], head)
    if d then
      local body = string.format('%016d{"status":"cancelled","attempts":%d}', now, d[2])
      result(p, tonumber(args[i]), body, head, now)
      close_journal(p, tonumber(args[i]), true)
      head.cancelled = head.cancelled + 1
      gone = gone + 1
    end
  end
  close_book(p, head)
  return gone
end

-- Results, keys and slabs that are forgotten by one call: what a call may cost.
local FORGET = 1000

-- Removes from a hash, and from the set of their times, the members whose time is over. How many.
local function forget_by_time(hash, times, now)
  local late = redis.call('ZRANGEBYSCORE', times, '-inf', now, 'LIMIT', 0, FORGET)
  if #late > 0 then
    redis.call('HDEL', hash, unpack(late))
    redis.call('ZREM', times, unpack(late))
  end
  return #late
end

-- Slabs of an index that are looked at by one call, and the last one that was.
local PRUNE, pruned = 64, {}

-- Slabs that are empty and no longer filled leave their index: some at a time, each in its turn.
local function prune(index, name, newest)
  local found = redis.call('ZRANGEBYSCORE', index, '(' .. (pruned[index] or -1), '+inf', 'LIMIT', 0, PRUNE)
  for _, b in ipairs(found) do
    if tonumber(b) ~= newest and redis.call('EXISTS', name .. b) == 0 then redis.call('ZREM', index, b) end
  end
  pruned[index] = #found == PRUNE and found[PRUNE] or nil
end

-- Forgets results that ended before, with their journals, and idempotency keys and holders of locks whose time
-- is over: before, now. It takes them from the front of the list in which they ended, so it costs what is
-- forgotten, and nothing when there is nothing to forget. Answers how many results, and 1 when there is more.
local function expire(keys, args)
  local p, before, expired, more = keys[1], tonumber(args[1]), 0, false
  local head = open_book(p)
  local refused = barred(p, head)
  if refused then return refused end
  more = forget_by_time(p .. ':idem', p .. ':idemdue', args[2]) == FORGET
  more = forget_by_time(p .. ':fences', p .. ':fencedue', args[2]) == FORGET or more
  local journals = redis.call('EXISTS', p .. ':kept') == 1
  while expired < FORGET do
    local first = redis.call('LINDEX', p .. ':ended', 0)
    local ended = first and (record_of(first, 1) or { 0 })
    if not ended or ended[1] >= before then break end
    local numbers = {}
    for i = 2, #ended do numbers[i - 1] = ended[i] end
    for b, of in pairs(by_slab(numbers)) do redis.call('HDEL', p .. ':results:' .. str(b), unpack(of)) end
    if journals then forget_journals(p, numbers) end
    redis.call('LPOP', p .. ':ended')
    expired = expired + #numbers
  end
  prune(p .. ':mails', p .. ':mail:', slab(head.last))
  prune(p .. ':outs', p .. ':out:', slab(num(redis.call('HGET', p .. ':sent', 'serial'))))
  if expired > 0 then close_book(p, head, {}) end
  return { expired, (more or expired >= FORGET) and 1 or 0 }
end
