-- What else only the owner of a partition may do.

-- Finishes commits whose state is written: epoch, then witness and commit of each. One whose witness
-- has ended was finished before. Answers the numbers of the messages of each that was finished now.
local function redo(keys, args)
  local p = keys[1]
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  local book, out, answers = open_book(p), begin_group(p), {}
  for i = 2, #args, 2 do
    local numbers = {}
    if waits(p, tonumber(args[i])) then
      local c = cmsgpack.unpack(args[i + 1])
      if apply_one(p, c, book, out) == 0 then
        for at = 1, #c[1], 6 do numbers[#numbers + 1] = c[1][at] end
        for at = 1, #c[2], 5 do numbers[#numbers + 1] = c[2][at] end
        for at = 1, #c[3], 2 do numbers[#numbers + 1] = c[3][at] end
      end
    end
    answers[#answers + 1] = numbers
  end
  end_group(p, book, out)
  return answers
end

-- epoch, then address and witness (or 0) of each: 1 if it has parked messages, plus 2 if the witness
-- has not ended.
local function open(keys, args)
  local p, answers = keys[1], {}
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  local any = redis.call('EXISTS', p .. ':parked') == 1
  for i = 2, #args, 2 do
    local flags, address, witness = 0, args[i], tonumber(args[i + 1])
    if any then
      local first = redis.call('ZRANGEBYLEX', p .. ':parked', '[' .. address .. '\0', '(' .. address .. '\1', 'LIMIT', 0, 1)
      if first[1] then flags = 1 end
    end
    if witness > 0 and waits(p, witness) then flags = flags + 2 end
    answers[#answers + 1] = flags
  end
  return answers
end

-- Counts a begun attempt of each: epoch, then numbers. 0 for one that is gone.
local function begin(keys, args)
  local p, counts = keys[1], {}
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  for i = 2, #args do
    if waits(p, tonumber(args[i])) then
      counts[#counts + 1] = redis.call('HINCRBY', p .. ':attempts', args[i], 1)
    else
      counts[#counts + 1] = 0
    end
  end
  return counts
end

local function cancel_one(p, n, body, book)
  local number = tonumber(n)
  if num(redis.call('HGET', p .. ':attempts', n)) > 0 then return 0 end
  if redis.call('EXISTS', p .. ':journal:' .. n) == 1 then return 0 end
  local envelope, packed = letter(p, number), nil
  if envelope then
    redis.call('XDEL', p .. ':mailbox', id(number))
  else
    packed = redis.call('HGET', p .. ':deferred', n)
    if not packed then return 0 end
    local d = cmsgpack.unpack(packed)
    envelope = d[6]
    undefer(p, number, d[3], d[4])
  end
  redis.call('HDEL', p .. ':attempts', n)
  book.cancelled = book.cancelled + 1
  book.bytes = book.bytes - #envelope
  result(p, number, body, book)
  return 1
end

-- Cancels messages of which no attempt has begun and that have no journal: epoch, result, numbers. 1 for each
-- that was cancelled, 0 for the others.
local function cancel(keys, args)
  local p, answers = keys[1], {}
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  local book = open_book(p)
  for i = 3, #args do answers[i - 2] = cancel_one(p, args[i], args[2], book) end
  close_book(p, book)
  return answers
end

-- Tenants that have more than their share: epoch, for how long (in milliseconds), the share, then tenant and
-- bytes of each.
local function refuse(keys, args)
  local p = keys[1]
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return 0 end
  redis.call('DEL', p .. ':crowd')
  if #args > 3 then
    redis.call('HSET', p .. ':crowd', 'share', args[3], unpack(args, 4))
    redis.call('PEXPIRE', p .. ':crowd', args[2])
  end
  return 1
end
