-- Dead letters, and forgetting.

-- Takes a letter out of the dead ones: {died attempts kind key failures envelope}, or nothing.
local function exhume(p, number, book)
  local packed = redis.call('HGET', p .. ':dead', number)
  if not packed then return nil end
  redis.call('HDEL', p .. ':dead', number)
  redis.call('ZREM', p .. ':deadline', number)
  redis.call('HDEL', p .. ':attempts', number)
  book.dead = book.dead - 1
  return cmsgpack.unpack(packed)
end

-- Puts dead letters back, attempts forgotten: node, partitions, now, numbers. Answers how many.
local function redrive(keys, args)
  local p, now, moved = keys[1], tonumber(args[3]), 0
  local book = open_book(p)
  local elsewhere = resized(book, args[2])
  if elsewhere then return elsewhere end
  for i = 4, #args do
    local d = exhume(p, args[i], book)
    if d then
      defer(p, tonumber(args[i]), now, 1, d[3], d[4], '', d[6])
      book.bytes = book.bytes + #d[6]
      moved = moved + 1
    end
  end
  if moved > 0 then
    close_book(p, book)
    wake(p, args[1], nil, true)
  end
  return moved
end

-- Gives dead letters up, each with its journal beside its result: partitions, now, numbers. Answers how many.
local function discard(keys, args)
  local p, now, gone = keys[1], tonumber(args[2]), 0
  local book = open_book(p)
  local elsewhere = resized(book, args[1])
  if elsewhere then return elsewhere end
  for i = 3, #args do
    local d = exhume(p, args[i], book)
    if d then
      result(p, tonumber(args[i]), string.format('%016d{"status":"cancelled","attempts":%d}', now, d[2]), book)
      close_journal(p, tonumber(args[i]), true)
      book.cancelled = book.cancelled + 1
      gone = gone + 1
    end
  end
  if gone > 0 then close_book(p, book) end
  return gone
end

-- Forgets results that ended before, with their journals, and idempotency keys and holders of locks whose time
-- is over: before, now. Answers how many results. Goes through at most 16 buckets, and stops at one that is still young.
local function expire(keys, args)
  local p, before, expired = keys[1], tonumber(args[1]), 0
  local late = redis.call('ZRANGEBYSCORE', p .. ':idemdue', '-inf', args[2], 'LIMIT', 0, 1000)
  if #late > 0 then
    redis.call('HDEL', p .. ':idem', unpack(late))
    redis.call('ZREM', p .. ':idemdue', unpack(late))
  end
  local old = redis.call('ZRANGEBYSCORE', p .. ':fencedue', '-inf', args[2], 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('HDEL', p .. ':fences', unpack(old))
    redis.call('ZREM', p .. ':fencedue', unpack(old))
  end
  local book = open_book(p)
  local b, lowest, newest = book.swept, nil, bucket(book.last)
  local journals = redis.call('EXISTS', p .. ':kept') == 1
  for _ = 1, 16 do
    if b > newest then break end
    local name = p .. ':results:' .. str(b)
    local all, kept, old = redis.call('HGETALL', name), 0, {}
    for i = 1, #all, 2 do
      if tonumber(all[i + 1]:sub(1, 16)) < before then old[#old + 1] = all[i] else kept = kept + 1 end
    end
    for i = 1, #old, 1000 do redis.call('HDEL', name, unpack(old, i, math.min(i + 999, #old))) end
    if journals and #old > 0 then forget_journals(p, b, old) end
    expired = expired + #old
    if kept > 0 and not lowest then lowest = b end
    if kept > 64 and #old == 0 then break end
    b = b + 1
  end
  local swept = lowest or math.min(b, newest)
  if expired > 0 or swept ~= book.swept then
    book.swept = swept
    close_book(p, book)
  end
  return expired
end
