-- What else only the owner of a partition may do.

-- Finishes commits whose state is written: epoch, then witness and commit of each. One whose witness
-- has ended was finished before. Answers 1 for each that was finished now.
local function redo(keys, args)
  local p = keys[1]
  local head = open_book(p)
  local refused = barred(p, head, args[1]) or full(head)
  if refused then return refused end
  local out, answers = begin_group(p), {}
  for i = 2, #args, 2 do
    local waiting = waits(p, tonumber(args[i]))
    if waiting then apply_one(p, cmsgpack.unpack(args[i + 1]), head, out, true) end
    answers[#answers + 1] = waiting and 1 or 0
  end
  end_group(p, head, out)
  return answers
end

-- epoch, then address, and numbers and homes of what the commit that wrote its state ended, deferred or parked
-- (packed, the witness first; or nothing). Answers for each 1 if it has parked messages, plus 2 if the witness
-- has not ended; then the places, counted from 1, of those that are not in their home any more.
local function open(keys, args)
  local p, answers = keys[1], {}
  local refused = barred(p, open_book(p), args[1])
  if refused then return refused end
  local any = redis.call('EXISTS', p .. ':parked') == 1
  for i = 2, #args, 2 do
    local flags, address, answer = 0, args[i], {}
    if any then
      local first = redis.call('ZRANGEBYLEX', p .. ':parked', '[' .. address .. '\0', '(' .. address .. '\1', 'LIMIT', 0, 1)
      if first[1] then flags = 1 end
    end
    if args[i + 1] ~= '' then
      local touched = cmsgpack.unpack(args[i + 1])
      if waits(p, touched[1]) then flags = flags + 2 end
      for j = 1, #touched, 2 do
        local n, there = touched[j], nil
        if touched[j + 1] == 0 then there = in_mailbox(p, n) else there = redis.call('HEXISTS', p .. ':deferred', str(n)) == 1 end
        if not there then answer[#answer + 1] = (j + 1) / 2 end
      end
    end
    table.insert(answer, 1, flags)
    answers[#answers + 1] = answer
  end
  return answers
end

-- What was answered to a call of an owner that comes again, or why that is not known: serials rise, so a call that
-- is older than the one that is remembered may have happened, and must not happen again.
local function answered(packed, epoch, serial)
  local said = packed and cmsgpack.unpack(packed)
  if not said or said[1] ~= epoch then return nil end
  if said[2] == serial then return said[3] end
  if tonumber(said[2]) > tonumber(serial) then return redis.error_reply(OVER) end
end

-- Counts a begun attempt of each: epoch, serial, then numbers. 0 for one that is gone. A call that comes again is
-- answered again.
local function begin(keys, args)
  local p, counts = keys[1], {}
  local head = open_book(p, 'begun')
  local refused = barred(p, head, args[1])
  if refused then return refused end
  local said = answered(head.begun, args[1], args[2])
  if said then return said end
  for i = 3, #args do
    if waits(p, tonumber(args[i])) then
      counts[#counts + 1] = redis.call('HINCRBY', p .. ':attempts', args[i], 1)
    else
      counts[#counts + 1] = 0
    end
  end
  close_book(p, head, { 'begun', cmsgpack.pack({ args[1], args[2], counts }) })
  return counts
end

local function cancel_one(p, n, body, head, at)
  local number = tonumber(n)
  if num(redis.call('HGET', p .. ':attempts', n)) > 0 then return 0 end
  if redis.call('EXISTS', p .. ':journal:' .. n) == 1 then return 0 end
  local envelope = letter(p, number)
  if envelope then
    remove(p, head, slab(number), { n })
  else
    local d = deferred(p, number)
    if not d then return 0 end
    envelope = d[6]
    undefer(p, number, d[3], d[4])
  end
  redis.call('HDEL', p .. ':attempts', n)
  head.cancelled = head.cancelled + 1
  head.bytes = head.bytes - #envelope
  result(p, number, body, head, at)
  return 1
end

-- Cancels messages of which no attempt has begun and that have no journal: epoch, serial, now, result, numbers.
-- 1 for each that was cancelled, 0 for the others. A call that comes again is answered again.
local function cancel(keys, args)
  local p, answers = keys[1], {}
  local head = open_book(p, 'cancels')
  local refused = barred(p, head, args[1])
  if refused then return refused end
  local said = answered(head.cancels, args[1], args[2])
  if said then return said end
  for i = 5, #args do answers[i - 4] = cancel_one(p, args[i], args[4], head, tonumber(args[3])) end
  close_book(p, head, { 'cancels', cmsgpack.pack({ args[1], args[2], answers }) })
  return answers
end

-- Tenants that have more than their share: epoch, for how long (in milliseconds), the share, then tenant and
-- bytes of each.
local function refuse(keys, args)
  local p = keys[1]
  if open_book(p).epoch ~= tonumber(args[1]) then return 0 end
  redis.call('DEL', p .. ':crowd')
  if #args > 3 then
    redis.call('HSET', p .. ':crowd', 'share', args[3], unpack(args, 4))
    redis.call('PEXPIRE', p .. ':crowd', args[2])
  end
  return 1
end
