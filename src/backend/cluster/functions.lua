#!lua name=greenroom_1
-- Everything that changes a partition, as functions that Redis runs one at a time: so each is atomic,
-- and each that an owner calls checks the owner's epoch first. keys[1] is the partition's prefix,
-- such as greenroom:{0042}: all its keys begin with it and so share a hash tag.
--
--   :mailbox   stream   <number>-0 → m envelope                   :counts  hash  last bytes completed …
--   :deferred  hash     number → {due parked kind key failures envelope}
--   :timers    zset     due → number, of deferred messages that have a time
--   :parked    zset     address NUL number, of deferred messages that their key waits for
--   :attempts  hash     number → attempts begun, where any were counted
--   :results:B hash     number → ended (16 digits) and JSON, B = number / 4096
--   :dead      hash     number → {died attempts kind key failures envelope}, :deadline zset of numbers
--   :outbox    stream   <serial>-0 → q s h e: what left for other partitions and has not arrived
--   :sent      hash     partition → last sequence sent to it; serial
--   :seen      hash     partition → last sequence received from it
--   :lease     hash     owner epoch clean; serial and answers of the last group of commits
--   :idem      hash     Idempotency-Key → {fingerprint number answer expires}, :idemdue zset

local BUCKET = 4096

local function num(x) return tonumber(x) or 0 end
-- Lua writes large numbers as 1e+15.
local function str(x) return string.format('%.0f', x) end
local function id(x) return string.format('%.0f-0', x) end
local function member(kind, key, number) return kind .. '/' .. key .. '\0' .. string.format('%012x', number) end
local function bucket(number) return math.floor(number / BUCKET) end

-- Lets the owner look, unless it is the one who calls: that one knows.
local function wake(p, node, last, timer)
  local owner = redis.call('HGET', p .. ':lease', 'owner')
  if owner and owner ~= '0' and owner ~= node then
    local base, partition = p:match('^(.*):{(%d+)}$')
    if last then redis.call('PUBLISH', base .. ':node:' .. owner, 'm' .. partition .. ':' .. str(last)) end
    if timer then redis.call('PUBLISH', base .. ':node:' .. owner, 'd' .. partition) end
  end
end

local function defer(p, number, due, parked, kind, key, failures, envelope)
  local n = str(number)
  redis.call('HSET', p .. ':deferred', n, cmsgpack.pack({ due, parked, kind, key, failures, envelope }))
  if due > 0 then redis.call('ZADD', p .. ':timers', str(due), n) else redis.call('ZREM', p .. ':timers', n) end
  if parked == 1 then redis.call('ZADD', p .. ':parked', 0, member(kind, key, number)) end
end

local function undefer(p, number, kind, key)
  local n = str(number)
  redis.call('ZREM', p .. ':timers', n)
  redis.call('ZREM', p .. ':parked', member(kind, key, number))
  return redis.call('HDEL', p .. ':deferred', n)
end

local function letter(p, number)
  local found = redis.call('XRANGE', p .. ':mailbox', id(number), id(number))
  return found[1] and found[1][2][2]
end

local function result(p, number, body, book)
  local b = bucket(number)
  redis.call('HSET', p .. ':results:' .. str(b), str(number), body)
  if b < book.swept then book.swept = b end
end

-- The counts, read once and written once a call.
local FIELDS = { 'last', 'bytes', 'completed', 'failed', 'dead', 'cancelled', 'swept' }
local function open_book(p)
  local values, book = redis.call('HMGET', p .. ':counts', unpack(FIELDS)), {}
  for i, field in ipairs(FIELDS) do book[field] = num(values[i]) end
  return book
end
local function close_book(p, book)
  local args = {}
  for _, field in ipairs(FIELDS) do
    args[#args + 1] = field
    args[#args + 1] = str(math.max(book[field], 0))
  end
  redis.call('HSET', p .. ':counts', unpack(args))
end

-- Puts a message at the end of the mailbox, or among the deferred when head names a time.
local function add(p, book, head, envelope)
  book.last = book.last + 1
  book.bytes = book.bytes + #envelope
  if head == '' then
    redis.call('XADD', p .. ':mailbox', id(book.last), 'm', envelope)
    return false
  end
  local h = cmsgpack.unpack(head)
  if h[1] == 0 then
    redis.call('XADD', p .. ':mailbox', id(book.last), 'm', envelope)
    return false
  end
  defer(p, book.last, h[1], 0, h[2], h[3], '', envelope)
  return true
end

-- node, budget, then head and envelope of each message. A head is empty, or
-- {due kind key} or {due kind key idempotency fingerprint answer expires now}.
local function append(keys, args)
  local p, budget = keys[1], tonumber(args[2])
  local book, answers, mail, timer = open_book(p), {}, false, false
  for i = 3, #args, 2 do
    local head, envelope = args[i], args[i + 1]
    local h = head ~= '' and cmsgpack.unpack(head)
    local idem = h and h[4]
    local answer
    if idem then
      local packed = redis.call('HGET', p .. ':idem', idem)
      local seen = packed and cmsgpack.unpack(packed)
      if seen and seen[4] > h[8] then
        if seen[1] == h[5] then answer = { 'seen', seen[2], seen[3] } else answer = { 'mismatch' } end
      end
    end
    if not answer and book.bytes + #envelope > budget then answer = { 'full', book.bytes } end
    if not answer then
      if add(p, book, head, envelope) then timer = true else mail = true end
      answer = book.last
      if idem then
        redis.call('HSET', p .. ':idem', idem, cmsgpack.pack({ h[5], book.last, h[6], h[7] }))
        redis.call('ZADD', p .. ':idemdue', str(h[7]), idem)
      end
    end
    answers[#answers + 1] = answer
  end
  if mail or timer then
    close_book(p, book)
    wake(p, args[1], mail and book.last, timer)
  end
  return answers
end

-- What another partition's outbox sends: node, sender, first sequence, whether a gap is accepted, then
-- head and envelope of each. A sequence is taken once, and none is skipped. Answers the number of the
-- first one taken, how many were known before, and how many were taken.
local function receive(keys, args)
  local p, first = keys[1], tonumber(args[3])
  local seen = num(redis.call('HGET', p .. ':seen', args[2]))
  if first > seen + 1 and args[4] ~= '1' then return { 'gap', seen } end
  local book, seq, timer, mail = open_book(p), first, false, false
  local began, known = book.last + 1, 0
  for i = 5, #args, 2 do
    if seq > seen then
      if add(p, book, args[i], args[i + 1]) then timer = true else mail = true end
    else
      known = known + 1
    end
    seq = seq + 1
  end
  if mail or timer then
    redis.call('HSET', p .. ':seen', args[2], str(seq - 1))
    close_book(p, book)
    wake(p, args[1], mail and book.last, timer)
  end
  return { began, known, book.last - began + 1 }
end

-- Applies one commit {done deferred parked outbox kind key}: all of it, or nothing when the message
-- whose number is answered is gone; 0 when it was applied.
local function apply_one(p, c, book, out)
  local done, deferred, parked, outbox, kind, key = c[1], c[2], c[3], c[4], c[5], c[6]
  local mail, moved = {}, {}
  -- First what can refuse.
  for i = 1, #done, 6 do
    local n, home, status = done[i], done[i + 1], done[i + 2]
    if status == 3 or home == 1 then
      if home == 0 then
        moved[n] = letter(p, n)
      else
        local packed = redis.call('HGET', p .. ':deferred', str(n))
        moved[n] = packed and cmsgpack.unpack(packed)[6]
      end
      if not moved[n] then return n end
    end
    if home == 0 then mail[#mail + 1] = id(n) end
  end
  for i = 1, #deferred, 5 do
    local n, home = deferred[i], deferred[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      mail[#mail + 1] = id(n)
    else
      local packed = redis.call('HGET', p .. ':deferred', str(n))
      moved[n] = packed and cmsgpack.unpack(packed)[6]
    end
    if not moved[n] then return n end
  end
  for i = 1, #parked, 2 do
    local n, home = parked[i], parked[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      mail[#mail + 1] = id(n)
    else
      local packed = redis.call('HGET', p .. ':deferred', str(n))
      moved[n] = packed and cmsgpack.unpack(packed)
    end
    if not moved[n] then return n end
  end
  if #mail > 1 then
    for i = 1, #mail do
      if not redis.call('XRANGE', p .. ':mailbox', mail[i], mail[i])[1] then return tonumber(mail[i]:match('^%d+')) end
    end
  end
  if #mail > 0 then
    local removed = 0
    for i = 1, #mail, 1000 do
      removed = removed + redis.call('XDEL', p .. ':mailbox', unpack(mail, i, math.min(i + 999, #mail)))
    end
    if removed == 0 then return done[1] or deferred[1] or parked[1] end
  end
  for i = 1, #done, 6 do
    local n, home, status, attempts, size, body = done[i], done[i + 1], done[i + 2], done[i + 3], done[i + 4], done[i + 5]
    if home == 1 then undefer(p, n, kind, key) end
    if status == 3 then
      redis.call('HSET', p .. ':dead', str(n), cmsgpack.pack({ c[7], attempts, kind, key, body, moved[n] }))
      redis.call('ZADD', p .. ':deadline', str(n), str(n))
      book.dead = book.dead + 1
    else
      if body then result(p, n, body, book) end
      local count = status == 0 and 'completed' or status == 1 and 'failed' or 'cancelled'
      book[count] = book[count] + 1
    end
    book.bytes = book.bytes - size
    if out.counted then redis.call('HDEL', p .. ':attempts', str(n)) end
  end
  for i = 1, #deferred, 5 do
    local n, due, attempts, failures = deferred[i], deferred[i + 2], deferred[i + 3], deferred[i + 4]
    defer(p, n, due, 1, kind, key, failures, moved[n])
    redis.call('HSET', p .. ':attempts', str(n), str(attempts))
    out.counted = true
  end
  for i = 1, #parked, 2 do
    local n, home = parked[i], parked[i + 1]
    if home == 0 then
      defer(p, n, 0, 1, kind, key, '', moved[n])
    else
      defer(p, n, 0, 1, kind, key, moved[n][5], moved[n][6])
    end
  end
  for i = 1, #outbox, 3 do
    local to, head, envelope = outbox[i], outbox[i + 1], outbox[i + 2]
    local sent = out.sent
    if to == out.me then
      local timer = add(p, book, head, envelope)
      sent[#sent + 1] = 0
      sent[#sent + 1] = book.last
      sent[#sent + 1] = timer and 1 or 0
    else
      local q = str(to)
      out.seqs = out.seqs or {}
      out.serial = out.serial or num(redis.call('HGET', p .. ':sent', 'serial'))
      out.seqs[q] = (out.seqs[q] or num(redis.call('HGET', p .. ':sent', q))) + 1
      out.serial = out.serial + 1
      redis.call('XADD', p .. ':outbox', id(out.serial), 'q', q, 's', str(out.seqs[q]), 'h', head, 'e', envelope)
      sent[#sent + 1] = out.serial
      sent[#sent + 1] = to
      sent[#sent + 1] = out.seqs[q]
    end
  end
  return 0
end

local function begin_group(p)
  return {
    me = tonumber(p:match('{(%d+)}$')),
    sent = {},
    counted = redis.call('EXISTS', p .. ':attempts') == 1,
  }
end

local function end_group(p, book, out)
  close_book(p, book)
  if out.seqs then
    local args = { 'serial', str(out.serial) }
    for q, seq in pairs(out.seqs) do
      args[#args + 1] = q
      args[#args + 1] = str(seq)
    end
    redis.call('HSET', p .. ':sent', unpack(args))
  end
end

-- A group of commits under a lease: epoch, serial of the group, then each commit. Answers
-- {answers sent}; a group that comes again, because its answer was lost, is answered again, with
-- 'again' instead of what was sent.
local function commit(keys, args)
  local p = keys[1]
  local lease = redis.call('HMGET', p .. ':lease', 'epoch', 'serial', 'answers')
  if lease[1] ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  if lease[2] == args[2] then return { cmsgpack.unpack(lease[3]), 'again' } end
  local book, out, answers = open_book(p), begin_group(p), {}
  for i = 3, #args do answers[i - 2] = apply_one(p, cmsgpack.unpack(args[i]), book, out) end
  end_group(p, book, out)
  redis.call('HSET', p .. ':lease', 'serial', args[2], 'answers', cmsgpack.pack(answers))
  return { answers, out.sent }
end

-- Whether a message has not ended.
local function waits(p, number)
  return redis.call('HEXISTS', p .. ':deferred', str(number)) == 1 or letter(p, number) ~= nil
end

-- Finishes commits whose state is written: epoch, then witness and commit of each. One whose witness
-- has ended was finished before. Answers how many were finished now.
local function redo(keys, args)
  local p = keys[1]
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  local book, out, finished = open_book(p), begin_group(p), 0
  for i = 2, #args, 2 do
    if waits(p, tonumber(args[i])) then
      if apply_one(p, cmsgpack.unpack(args[i + 1]), book, out) == 0 then finished = finished + 1 end
    end
  end
  if finished > 0 then end_group(p, book, out) end
  return finished
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

-- Cancels a message of which no attempt has begun: epoch, number, result.
local function cancel(keys, args)
  local p, number = keys[1], tonumber(args[2])
  if redis.call('HGET', p .. ':lease', 'epoch') ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  if num(redis.call('HGET', p .. ':attempts', args[2])) > 0 then return 0 end
  local envelope, packed = letter(p, number), nil
  if envelope then
    redis.call('XDEL', p .. ':mailbox', id(number))
  else
    packed = redis.call('HGET', p .. ':deferred', args[2])
    if not packed then return 0 end
    local d = cmsgpack.unpack(packed)
    envelope = d[6]
    undefer(p, number, d[3], d[4])
  end
  redis.call('HDEL', p .. ':attempts', args[2])
  local book = open_book(p)
  book.cancelled = book.cancelled + 1
  book.bytes = book.bytes - #envelope
  result(p, number, args[3], book)
  close_book(p, book)
  return 1
end

-- Puts dead letters back, attempts forgotten: node, now, numbers. Answers how many.
local function redrive(keys, args)
  local p, now, moved = keys[1], tonumber(args[2]), 0
  local book = open_book(p)
  for i = 3, #args do
    local packed = redis.call('HGET', p .. ':dead', args[i])
    if packed then
      local d = cmsgpack.unpack(packed)
      redis.call('HDEL', p .. ':dead', args[i])
      redis.call('ZREM', p .. ':deadline', args[i])
      redis.call('HDEL', p .. ':attempts', args[i])
      defer(p, tonumber(args[i]), now, 1, d[3], d[4], '', d[6])
      book.dead = book.dead - 1
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

-- Gives dead letters up: now, numbers. Answers how many.
local function discard(keys, args)
  local p, now, gone = keys[1], tonumber(args[1]), 0
  local book = open_book(p)
  for i = 2, #args do
    local packed = redis.call('HGET', p .. ':dead', args[i])
    if packed then
      local d = cmsgpack.unpack(packed)
      redis.call('HDEL', p .. ':dead', args[i])
      redis.call('ZREM', p .. ':deadline', args[i])
      redis.call('HDEL', p .. ':attempts', args[i])
      result(p, tonumber(args[i]), string.format('%016.0f{"status":"cancelled","attempts":%d}', now, d[2]), book)
      book.dead = book.dead - 1
      book.cancelled = book.cancelled + 1
      gone = gone + 1
    end
  end
  if gone > 0 then close_book(p, book) end
  return gone
end

-- Forgets results that ended before, and idempotency keys that expired: before, now. Answers how
-- many results. Goes through at most 16 buckets, and stops at one that is still young.
local function expire(keys, args)
  local p, before, expired = keys[1], tonumber(args[1]), 0
  local late = redis.call('ZRANGEBYSCORE', p .. ':idemdue', '-inf', args[2], 'LIMIT', 0, 1000)
  if #late > 0 then
    redis.call('HDEL', p .. ':idem', unpack(late))
    redis.call('ZREM', p .. ':idemdue', unpack(late))
  end
  local book = open_book(p)
  local b, lowest, newest = book.swept, nil, bucket(book.last)
  for _ = 1, 16 do
    if b > newest then break end
    local name = p .. ':results:' .. str(b)
    local all, kept, old = redis.call('HGETALL', name), 0, {}
    for i = 1, #all, 2 do
      if tonumber(all[i + 1]:sub(1, 16)) < before then old[#old + 1] = all[i] else kept = kept + 1 end
    end
    for i = 1, #old, 1000 do redis.call('HDEL', name, unpack(old, i, math.min(i + 999, #old))) end
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

-- Where a message is: number.
local function lookup(keys, args)
  local p, number = keys[1], tonumber(args[1])
  local body = redis.call('HGET', p .. ':results:' .. str(bucket(number)), args[1])
  if body then return { 'result', body } end
  local attempts = num(redis.call('HGET', p .. ':attempts', args[1]))
  local envelope = letter(p, number)
  if envelope then return { 'mailbox', envelope, attempts } end
  local packed = redis.call('HGET', p .. ':deferred', args[1])
  if packed then return { 'deferred', packed, attempts } end
  packed = redis.call('HGET', p .. ':dead', args[1])
  if packed then return { 'dead', packed } end
  return { 'none', num(redis.call('HGET', p .. ':counts', 'last')) }
end

-- Deferred messages that are due: now, limit, numbers handed out (packed). Answers when the next
-- one is due (-1: none), then number, record and attempts of each.
local function due(keys, args)
  local p, now, limit = keys[1], tonumber(args[1]), tonumber(args[2])
  local handed, count = {}, 0
  for _, n in ipairs(cmsgpack.unpack(args[3])) do
    handed[str(n)] = true
    count = count + 1
  end
  local found = redis.call('ZRANGEBYSCORE', p .. ':timers', '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, count + limit + 1)
  -- Equal times come in the order of their digits: not the order of acceptance.
  local order = {}
  for i = 1, #found, 2 do
    if not handed[found[i]] then order[#order + 1] = { tonumber(found[i + 1]), tonumber(found[i]), found[i] } end
  end
  table.sort(order, function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end)
  local answer = { -1 }
  for _, timer in ipairs(order) do
    if timer[1] > now or #answer > limit * 3 then
      answer[1] = timer[1]
      break
    end
    answer[#answer + 1] = timer[2]
    answer[#answer + 1] = redis.call('HGET', p .. ':deferred', timer[3])
    answer[#answer + 1] = num(redis.call('HGET', p .. ':attempts', timer[3]))
  end
  return answer
end

-- Parked messages of an address: address, from, limit. Number, record and attempts of each.
local function parked(keys, args)
  local p, address = keys[1], args[1]
  local from = '[' .. address .. '\0' .. string.format('%012x', tonumber(args[2]))
  local found = redis.call('ZRANGEBYLEX', p .. ':parked', from, '(' .. address .. '\1', 'LIMIT', 0, args[3])
  local answer = {}
  for _, m in ipairs(found) do
    local n = str(tonumber(m:sub(-12), 16))
    answer[#answer + 1] = tonumber(n)
    answer[#answer + 1] = redis.call('HGET', p .. ':deferred', n)
    answer[#answer + 1] = num(redis.call('HGET', p .. ':attempts', n))
  end
  return answer
end

-- Addresses that have parked messages: after (or empty), limit.
local function blocked(keys, args)
  local p, answer = keys[1], {}
  local from = args[1] == '' and '-' or '(' .. args[1] .. '\1'
  for _ = 1, tonumber(args[2]) do
    local first = redis.call('ZRANGEBYLEX', p .. ':parked', from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local address = first:match('^(.*)%z')
    answer[#answer + 1] = address
    from = '(' .. address .. '\1'
  end
  return answer
end

-- Dead letters: after, limit. Number and record of each.
local function dead(keys, args)
  local p, answer = keys[1], {}
  local found = redis.call('ZRANGEBYSCORE', p .. ':deadline', '(' .. args[1], '+inf', 'LIMIT', 0, args[2])
  for _, n in ipairs(found) do
    answer[#answer + 1] = tonumber(n)
    answer[#answer + 1] = redis.call('HGET', p .. ':dead', n)
  end
  return answer
end

-- The books and what is there: counts as FIELDS, mailbox, deferred, dead, outbox, timers due at now.
local function books(keys, args)
  local p, answer = keys[1], {}
  local book = open_book(p)
  for _, field in ipairs(FIELDS) do answer[#answer + 1] = book[field] end
  answer[#answer + 1] = redis.call('XLEN', p .. ':mailbox')
  answer[#answer + 1] = redis.call('HLEN', p .. ':deferred')
  answer[#answer + 1] = redis.call('HLEN', p .. ':dead')
  answer[#answer + 1] = redis.call('XLEN', p .. ':outbox')
  answer[#answer + 1] = redis.call('ZCOUNT', p .. ':timers', '-inf', args[1])
  return answer
end

-- Takes a partition: node, highest number any node had, numbers of the nodes that live. Answers
-- {0 holder}, or {epoch clean last} and number and attempts of each message that was counted.
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
  local answer = { epoch, clean and 1 or 0, num(redis.call('HGET', p .. ':counts', 'last')) }
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

-- keys[1] of the next four is greenroom:{nodes}. A member is its beat, a space, and what it says.
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

local function leave(keys, args)
  return redis.call('HDEL', keys[1] .. ':members', args[1])
end

-- What frees memory, or keeps a promise already made, must go on when memory is out.
local OOM = { 'allow-oom' }
redis.register_function('greenroom_1_append', append)
redis.register_function({ function_name = 'greenroom_1_receive', callback = receive, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_commit', callback = commit, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_redo', callback = redo, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_open', callback = open, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_begin', callback = begin, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_cancel', callback = cancel, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_redrive', callback = redrive, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_discard', callback = discard, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_expire', callback = expire, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_lookup', callback = lookup, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_due', callback = due, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_parked', callback = parked, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_blocked', callback = blocked, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_dead', callback = dead, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_books', callback = books, flags = { 'no-writes' } })
redis.register_function({ function_name = 'greenroom_1_acquire', callback = acquire, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_release', callback = release, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_join', callback = join, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_beat', callback = beat, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_give_up', callback = give_up, flags = OOM })
redis.register_function({ function_name = 'greenroom_1_leave', callback = leave, flags = OOM })
