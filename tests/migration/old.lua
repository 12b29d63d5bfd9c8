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
--   :journal:N list     what message N has recorded
--   :journaled zset     numbers of messages that have a journal and have not ended; :kept of results
--   :outbox    stream   <serial>-0 → q s h e: what left for other partitions and has not arrived
--   :sent      hash     partition → last sequence sent to it; serial
--   :seen      hash     partition → last sequence received from it
--   :lease     hash     owner epoch clean; serial and answers of the last group of commits
--   :crowd     hash     tenant → bytes it has, of those that have more than their share; share. Goes away by itself
--   :idem      hash     Idempotency-Key → {fingerprint number answer expires address partition}, :idemdue
--                       zset; the partition is there where the number is one of another partition
--   :fences    hash     lock → token of its newest holder that appended, :fencedue zset
--   :moved     hash     number → <partition>-<number> it has since the partitions were resized
--   :arrived   hash     while they are: old number → number, of what was taken last; from

local BUCKET = 4096

local function num(x) return tonumber(x) or 0 end
-- Lua writes large numbers as 1e+15.
local function str(x) return string.format('%d', x) end
local function id(x) return string.format('%d-0', x) end
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

-- Whether a message is in the mailbox or deferred: it has not ended, nor is it dead.
local function waits(p, number)
  return redis.call('HEXISTS', p .. ':deferred', str(number)) == 1 or letter(p, number) ~= nil
end

local function result(p, number, body, book)
  local b = bucket(number)
  redis.call('HSET', p .. ':results:' .. str(b), str(number), body)
  if b < book.swept then book.swept = b end
end

-- The counts, read once and written once a call. 'out' of those up to 'last' have moved to another
-- partition and count there. 'of' is how many partitions there are, once they were resized: 0 before.
local FIELDS = { 'last', 'bytes', 'completed', 'failed', 'dead', 'cancelled', 'swept', 'out', 'of' }
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

-- What a node says that has slept through a resize belongs somewhere else now.
local function resized(book, partitions)
  if book.of == 0 or book.of == tonumber(partitions) then return nil end
  return redis.error_reply('RESIZED the store has ' .. str(book.of) .. ' partitions now, and this node knows ' .. partitions)
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
-- Putting messages into mailboxes.

-- The bytes of a tenant that has more than its share, and that share.
local function crowding(p, tenant)
  if tenant == '' then return nil end
  local crowd = redis.call('HMGET', p .. ':crowd', tenant, 'share')
  if crowd[1] then return num(crowd[1]), num(crowd[2]) end
end

-- The newest holder of a lock that has appended here, and when that is forgotten.
local function raise(p, lock, token, forgotten)
  redis.call('HSET', p .. ':fences', lock, str(token))
  redis.call('ZADD', p .. ':fencedue', str(forgotten), lock)
end

-- node, budget, partitions, tenants, then head and envelope of each message. The tenants are nothing, when
-- none of them is anybody's, or that of each (packed), which is nothing where it is nobody's. A head is
-- empty, or {due kind key}, or {due kind key idempotency fingerprint answer expires now}, or these (false
-- where there is no idempotency key) and {lock token forgotten}: who of a lock's holders appends.
local function append(keys, args)
  local p, budget = keys[1], tonumber(args[2])
  local book, answers, mail, timer = open_book(p), {}, false, false
  local elsewhere = resized(book, args[3])
  if elsewhere then return elsewhere end
  local tenants = args[4] ~= '' and redis.call('EXISTS', p .. ':crowd') == 1 and cmsgpack.unpack(args[4])
  for i = 5, #args, 2 do
    local head, envelope = args[i], args[i + 1]
    local h = head ~= '' and cmsgpack.unpack(head)
    local idem, lock = h and h[4], h and h[9]
    local answer
    if idem then
      local packed = redis.call('HGET', p .. ':idem', idem)
      local seen = packed and cmsgpack.unpack(packed)
      if seen and seen[4] > h[8] then
        if seen[1] == h[5] then answer = { 'seen', seen[2], seen[3], seen[6] } else answer = { 'mismatch' } end
      end
    end
    if not answer and tenants then
      local bytes, share = crowding(p, tenants[(i - 3) / 2])
      if bytes then answer = { 'full', bytes, share } end
    end
    if not answer and lock then
      local newest = num(redis.call('HGET', p .. ':fences', lock))
      if h[10] < newest then answer = { 'fenced', newest } end
    end
    if not answer and book.bytes + #envelope > budget then answer = { 'full', book.bytes } end
    if not answer then
      if add(p, book, head, envelope) then timer = true else mail = true end
      answer = book.last
      if idem then
        redis.call('HSET', p .. ':idem', idem, cmsgpack.pack({ h[5], book.last, h[6], h[7], h[2] .. '/' .. h[3] }))
        redis.call('ZADD', p .. ':idemdue', str(h[7]), idem)
      end
      if lock then raise(p, lock, h[10], h[11]) end
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
-- What running commands record before they go on: a list per message, which is a part of the message.
-- A commit writes {number flags entries …}: flags 1 when the message's own handler writes, and 2 when the
-- message is woken.

-- Which of the messages that are written to still wait; or nothing, and the number of one that is gone
-- though its own handler writes.
local function writable(p, written)
  local there = {}
  for i = 1, #written, 3 do
    local n = written[i]
    local own = written[i + 1] % 2 == 1
    -- What came for a dead letter is there when it is redriven.
    if waits(p, n) or (not own and redis.call('HEXISTS', p .. ':dead', str(n)) == 1) then
      there[n] = true
    elseif own then
      return nil, n
    end
  end
  return there
end

-- Puts entries at the end of the journal of a message that has not ended.
local function record(p, number, entries)
  local n = str(number)
  for i = 1, #entries, 1000 do
    redis.call('RPUSH', p .. ':journal:' .. n, unpack(entries, i, math.min(i + 999, #entries)))
  end
  if #entries > 0 then redis.call('ZADD', p .. ':journaled', n, n) end
end

local function record_all(p, written, there)
  for i = 1, #written, 3 do
    if there[written[i]] then record(p, written[i], written[i + 2]) end
  end
end

-- Makes those due that are to be woken. What is parked behind another message has no time, and gets none;
-- a record that cannot be read is left to whoever reads it.
local function rouse(p, written, at)
  for i = 1, #written, 3 do
    local n = str(written[i])
    local packed = written[i + 1] >= 2 and redis.call('HGET', p .. ':deferred', n)
    if packed then
      local fine, d = pcall(cmsgpack.unpack, packed)
      if fine and type(d) == 'table' and #d == 6 and d[1] > at then
        d[1] = math.max(at, 1)
        redis.call('HSET', p .. ':deferred', n, cmsgpack.pack(d))
        redis.call('ZADD', p .. ':timers', str(d[1]), n)
      end
    end
  end
end

-- The message has ended: its journal lies beside its result now, or is forgotten.
local function close_journal(p, number, kept)
  local n = str(number)
  if redis.call('ZREM', p .. ':journaled', n) == 0 then return end
  if kept then
    redis.call('ZADD', p .. ':kept', n, n)
  else
    redis.call('UNLINK', p .. ':journal:' .. n)
  end
end

-- Forgets the journals of results of a bucket that are forgotten.
local function forget_journals(p, b, numbers)
  local kept = redis.call('ZRANGEBYSCORE', p .. ':kept', str(b * BUCKET), str((b + 1) * BUCKET - 1))
  if #kept == 0 then return end
  local gone = {}
  for _, n in ipairs(numbers) do gone[n] = true end
  for _, n in ipairs(kept) do
    if gone[n] then
      redis.call('UNLINK', p .. ':journal:' .. n)
      redis.call('ZREM', p .. ':kept', n)
    end
  end
end

-- The journal of a message that has not ended, as one value; empty when it has none.
local function carried(p, n)
  if not redis.call('ZSCORE', p .. ':journaled', n) then return '' end
  return cmsgpack.pack(redis.call('LRANGE', p .. ':journal:' .. n, 0, -1))
end

-- The entries of a journal: number.
local function journal(keys, args)
  return redis.call('LRANGE', keys[1] .. ':journal:' .. args[1], 0, -1)
end

-- Messages that have a journal and have not ended.
local function journaled(keys)
  return redis.call('ZRANGE', keys[1] .. ':journaled', 0, -1)
end
-- Ending, deferring and parking messages: what a commit does besides the state.

local NONE = {}

local function set(numbers)
  if not numbers then return NONE end
  local members = {}
  for _, n in ipairs(numbers) do members[n] = true end
  return members
end

-- Applies one commit {done deferred parked outbox kind key at journals alone recorded}: all of it, or
-- nothing when the message whose number is answered is gone; 0 when it was applied. The last three are
-- there where a commit has to do with journals: what is written to them, deferred messages that their
-- key does not wait for, and those that end and have a journal.
local function apply_one(p, c, book, out)
  local done, deferred, parked, outbox, kind, key = c[1], c[2], c[3], c[4], c[5], c[6]
  local mail, moved, written, there = {}, {}, c[8], nil
  -- First what can refuse.
  if written then
    local gone
    there, gone = writable(p, written)
    if gone then return gone end
  end
  for i = 1, #done, 6 do
    local n, home, status = done[i], done[i + 1], done[i + 2]
    -- One that is recalled may have ended, and then the note that recalls it must not end with it.
    if status >= 2 or home == 1 then
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
    -- One that is gone was cancelled while it waited: nothing was decided of it but that it waits.
    local n, home = parked[i], parked[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      if moved[n] then mail[#mail + 1] = id(n) end
    else
      local packed = redis.call('HGET', p .. ':deferred', str(n))
      moved[n] = packed and cmsgpack.unpack(packed)
    end
  end
  if #mail > 0 then
    local removed = 0
    for i = 1, #mail, 1000 do
      removed = removed + redis.call('XDEL', p .. ':mailbox', unpack(mail, i, math.min(i + 999, #mail)))
    end
    if removed == 0 then return done[1] or deferred[1] or parked[1] end
  end
  local alone, recorded = set(c[9]), set(c[10])
  if written then record_all(p, written, there) end
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
      if recorded[n] or there and there[n] then close_journal(p, n, body) end
    end
    book.bytes = book.bytes - size
    if out.counted then redis.call('HDEL', p .. ':attempts', str(n)) end
  end
  for i = 1, #deferred, 5 do
    local n, home, due, attempts, failures = deferred[i], deferred[i + 1], deferred[i + 2], deferred[i + 3], deferred[i + 4]
    defer(p, n, due, alone[n] and 0 or 1, kind, key, failures, moved[n])
    if alone[n] and home == 1 then redis.call('ZREM', p .. ':parked', member(kind, key, n)) end
    if attempts > 0 then
      redis.call('HSET', p .. ':attempts', str(n), str(attempts))
      out.counted = true
    elseif out.counted then
      redis.call('HDEL', p .. ':attempts', str(n))
    end
  end
  for i = 1, #parked, 2 do
    local n, home = parked[i], parked[i + 1]
    if moved[n] and home == 0 then
      defer(p, n, 0, 1, kind, key, '', moved[n])
    elseif moved[n] then
      defer(p, n, 0, 1, kind, key, moved[n][5], moved[n][6])
    end
  end
  if written then rouse(p, written, c[7]) end
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

-- Messages that ended, and nothing else: {completed failed bytes ids numbers results}, results being
-- bucket and {number body …} of each. Only the owner takes messages out of a mailbox, and it does not say
-- so of one twice: all are there, or it is an answer that was lost. How many were there.
local function end_all(p, plain, book, out)
  local ids, numbers, removed = plain[4], plain[5], 0
  for i = 1, #ids, 1000 do
    removed = removed + redis.call('XDEL', p .. ':mailbox', unpack(ids, i, math.min(i + 999, #ids)))
  end
  if removed == 0 then return 0 end
  book.completed = book.completed + plain[1]
  book.failed = book.failed + plain[2]
  book.bytes = book.bytes - plain[3]
  for i = 1, #plain[6], 2 do
    local b, pairs = plain[6][i], plain[6][i + 1]
    for at = 1, #pairs, 1000 do
      redis.call('HSET', p .. ':results:' .. str(b), unpack(pairs, at, math.min(at + 999, #pairs)))
    end
    if b < book.swept then book.swept = b end
  end
  if out.counted then
    for i = 1, #numbers, 1000 do redis.call('HDEL', p .. ':attempts', unpack(numbers, i, math.min(i + 999, #numbers))) end
  end
  return removed
end

-- A group of commits under a lease: epoch, serial of the group, those that only end messages (or
-- nothing), then each of the others. Answers {answers of the others, how many ended, sent}; a group
-- that comes again, because its answer was lost, is answered again, with 'again' instead of what was
-- sent.
local function commit(keys, args)
  local p = keys[1]
  local lease = redis.call('HMGET', p .. ':lease', 'epoch', 'serial', 'answers')
  if lease[1] ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  if lease[2] == args[2] then
    local kept = cmsgpack.unpack(lease[3])
    return { kept[1], kept[2], 'again' }
  end
  local book, out, answers, ended = open_book(p), begin_group(p), {}, 0
  if args[3] ~= '' then ended = end_all(p, cmsgpack.unpack(args[3]), book, out) end
  for i = 4, #args do answers[i - 3] = apply_one(p, cmsgpack.unpack(args[i]), book, out) end
  end_group(p, book, out)
  redis.call('HSET', p .. ':lease', 'serial', args[2], 'answers', cmsgpack.pack({ answers, ended }))
  return { answers, ended, out.sent }
end
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
-- Looking, without changing anything.

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
  local to = redis.call('HGET', p .. ':moved', args[1])
  if to then return { 'moved', to } end
  return { 'none', num(redis.call('HGET', p .. ':counts', 'last')) }
end

-- Where in a set of timers those begin that are due at a time or later, a member's place among those of one
-- time being that of its digits.
local function begins(timers, due, member)
  local low, high = 0, redis.call('ZCARD', timers)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = redis.call('ZRANGE', timers, middle, middle, 'WITHSCORES')
    local score = tonumber(at[2])
    if score < due or score == due and at[1] < member then low = middle + 1 else high = middle end
  end
  return low
end

-- Deferred messages that are due: now, limit, numbers handed out (packed), and from which on (its time and
-- number; from the first, when not said). Answers when the next one is due (-1: none), then number, record
-- and attempts of each.
local function due(keys, args)
  local p, now, limit = keys[1], tonumber(args[1]), tonumber(args[2])
  local handed, count = {}, 0
  for _, n in ipairs(cmsgpack.unpack(args[3])) do
    handed[str(n)] = true
    count = count + 1
  end
  local first = args[4] and begins(p .. ':timers', tonumber(args[4]), args[5]) or 0
  local found = redis.call('ZRANGE', p .. ':timers', first, first + count + limit, 'WITHSCORES')
  local answer, order = { -1 }, {}
  for i = 1, #found, 2 do
    local due = tonumber(found[i + 1])
    if not handed[found[i]] then
      if due > now or #order == limit then
        answer[1] = due
        break
      end
      order[#order + 1] = { due, tonumber(found[i]), found[i] }
    end
  end
  -- Equal times come in the order of their digits: not the order of acceptance.
  table.sort(order, function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end)
  for _, timer in ipairs(order) do
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
-- Changing how many partitions there are. A message is first put into its new partition, under a new
-- number, and remembered there by its old one; then it is taken out of the old partition, which remembers
-- its new place for good. Each function that changes a partition names the epoch of who resizes.

local function owns(p, epoch)
  return redis.call('HGET', p .. ':lease', 'epoch') == epoch
end

local STALE = 'STALE another owner has taken over'

-- From now on only nodes that know this many partitions put anything in: epoch, partitions.
local function fence(keys, args)
  if not owns(keys[1], args[1]) then return redis.error_reply(STALE) end
  return redis.call('HSET', keys[1] .. ':counts', 'of', args[2])
end

-- Numbers of messages in the mailbox: after, limit.
local function numbers(keys, args)
  local found, answer = redis.call('XRANGE', keys[1] .. ':mailbox', '(' .. id(tonumber(args[1])), '+', 'COUNT', args[2]), {}
  for _, entry in ipairs(found) do answer[#answer + 1] = tonumber(entry[1]:match('^%d+')) end
  return answer
end

-- Numbers of all other messages that have not ended.
local function others(keys)
  local answer = redis.call('HKEYS', keys[1] .. ':deferred')
  for _, n in ipairs(redis.call('HKEYS', keys[1] .. ':dead')) do answer[#answer + 1] = n end
  return answer
end

-- Messages by number: number, place (0 mailbox, 1 deferred, 2 dead, 3 gone), bytes, attempts and journal of
-- each, for as many of those asked for as fit into an answer.
local function pick(keys, args)
  local p, answer, size = keys[1], {}, 0
  for _, n in ipairs(args) do
    local place, bytes = 0, letter(p, tonumber(n))
    if not bytes then place, bytes = 1, redis.call('HGET', p .. ':deferred', n) end
    if not bytes then place, bytes = 2, redis.call('HGET', p .. ':dead', n) end
    if not bytes then place, bytes = 3, '' end
    answer[#answer + 1] = tonumber(n)
    answer[#answer + 1] = place
    answer[#answer + 1] = bytes
    answer[#answer + 1] = num(redis.call('HGET', p .. ':attempts', n))
    answer[#answer + 1] = carried(p, n)
    size = size + #bytes + #answer[#answer]
    if size > 1048576 then break end
  end
  return answer
end

-- Takes messages of another partition: epoch, from, first, then number, place, bytes, attempts and journal
-- of each, in order. Answers the new number of each. First is the lowest number that has not left the other
-- partition: what is remembered of earlier ones is needed no more. One that is taken again, because the
-- answer was lost or who resizes was killed, keeps the number it has.
local function arrive(keys, args)
  local p, from, first, answer = keys[1], args[2], tonumber(args[3]), {}
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  local arrived = p .. ':arrived'
  if redis.call('HGET', arrived, 'from') ~= from then
    redis.call('DEL', arrived)
    redis.call('HSET', arrived, 'from', from)
  end
  for _, n in ipairs(redis.call('HKEYS', arrived)) do
    if n ~= 'from' and tonumber(n) < first then redis.call('HDEL', arrived, n) end
  end
  local book = open_book(p)
  for i = 4, #args, 5 do
    local n, place, bytes, attempts = args[i], args[i + 1], args[i + 2], tonumber(args[i + 3])
    local number = tonumber(redis.call('HGET', arrived, n))
    if not number then
      book.last = book.last + 1
      number = book.last
      if place == '0' then
        redis.call('XADD', p .. ':mailbox', id(number), 'm', bytes)
        book.bytes = book.bytes + #bytes
      elseif place == '1' then
        local d = cmsgpack.unpack(bytes)
        defer(p, number, d[1], d[2], d[3], d[4], d[5], d[6])
        book.bytes = book.bytes + #d[6]
      else
        redis.call('HSET', p .. ':dead', str(number), bytes)
        redis.call('ZADD', p .. ':deadline', str(number), str(number))
        book.dead = book.dead + 1
      end
      if attempts > 0 then redis.call('HSET', p .. ':attempts', str(number), str(attempts)) end
      if args[i + 4] ~= '' then record(p, number, cmsgpack.unpack(args[i + 4])) end
      redis.call('HSET', arrived, n, str(number))
    end
    answer[#answer + 1] = number
  end
  close_book(p, book)
  return answer
end

-- Removes messages that have arrived somewhere else: epoch, then number and new place of each.
local function depart(keys, args)
  local p = keys[1]
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  local book = open_book(p)
  for i = 2, #args, 2 do
    local n, number = args[i], tonumber(args[i])
    local bytes, packed = letter(p, number), redis.call('HGET', p .. ':deferred', n)
    local there = true
    if bytes then
      redis.call('XDEL', p .. ':mailbox', id(number))
      book.bytes = book.bytes - #bytes
    elseif packed then
      local fine, d = pcall(cmsgpack.unpack, packed)
      if fine and type(d) == 'table' and #d == 6 then
        undefer(p, number, d[3], d[4])
        book.bytes = book.bytes - #d[6]
      else
        redis.call('HDEL', p .. ':deferred', n)
        redis.call('ZREM', p .. ':timers', n)
      end
    elseif redis.call('HDEL', p .. ':dead', n) == 1 then
      redis.call('ZREM', p .. ':deadline', n)
      book.dead = book.dead - 1
    else
      there = false
    end
    if there then
      redis.call('HDEL', p .. ':attempts', n)
      close_journal(p, number, false)
      redis.call('HSET', p .. ':moved', n, args[i + 1])
      book.out = book.out + 1
    end
  end
  close_book(p, book)
  return 0
end

-- Some idempotency keys: cursor. Answers the next cursor, then key and record of each.
local function idems(keys, args)
  local found = redis.call('HSCAN', keys[1] .. ':idem', args[1], 'COUNT', 512)
  table.insert(found[2], 1, found[1])
  return found[2]
end

-- Takes idempotency keys of another partition: epoch, from, then key and record of each. The client's key
-- is its own, so one that is here already means the same request, or a mistake: the one that is
-- remembered longer stays.
local function keep(keys, args)
  local p = keys[1]
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  for i = 3, #args, 2 do
    local record, here = cmsgpack.unpack(args[i + 1]), redis.call('HGET', p .. ':idem', args[i])
    record[6] = record[6] or tonumber(args[2])
    if not here or cmsgpack.unpack(here)[4] < record[4] then
      redis.call('HSET', p .. ':idem', args[i], cmsgpack.pack(record))
      redis.call('ZADD', p .. ':idemdue', str(record[4]), args[i])
    end
  end
  return 0
end

-- Forgets idempotency keys that were taken: epoch, keys.
local function unkeep(keys, args)
  local p = keys[1]
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  for i = 2, #args do
    redis.call('HDEL', p .. ':idem', args[i])
    redis.call('ZREM', p .. ':idemdue', args[i])
  end
  return 0
end

-- Some of the newest holders of locks: cursor. Answers the next cursor, then lock, token and when it is forgotten.
local function fences(keys, args)
  local p = keys[1]
  local found = redis.call('HSCAN', p .. ':fences', args[1], 'COUNT', 512)
  local answer = { found[1] }
  for i = 1, #found[2], 2 do
    answer[#answer + 1] = found[2][i]
    answer[#answer + 1] = found[2][i + 1]
    answer[#answer + 1] = redis.call('ZSCORE', p .. ':fencedue', found[2][i]) or '0'
  end
  return answer
end

-- Takes holders of locks from other partitions, each if it is newer: epoch, then lock, token and when it is
-- forgotten.
local function refence(keys, args)
  local p = keys[1]
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  for i = 2, #args, 3 do
    local token = tonumber(args[i + 1])
    if token > num(redis.call('HGET', p .. ':fences', args[i])) then raise(p, args[i], token, tonumber(args[i + 2])) end
  end
  return 0
end

-- Lets a partition go: epoch, the epoch it has from now on, whether its last owner let go in order.
local function settle(keys, args)
  local p = keys[1]
  if not owns(p, args[1]) then return redis.error_reply(STALE) end
  redis.call('DEL', p .. ':arrived')
  redis.call('HDEL', p .. ':lease', 'answers')
  redis.call('HSET', p .. ':lease', 'owner', '0', 'epoch', args[2], 'clean', args[3], 'serial', '0')
  return 1
end

-- keys[1] of the next two is greenroom:{meta}. Says that the store is being resized: what to, or nothing.
local function mark(keys, args)
  if args[1] == '' then return redis.call('HDEL', keys[1], 'resizing') end
  return redis.call('HSET', keys[1], 'resizing', args[1])
end

-- Says that it is resized: partitions, and how many there ever were.
local function finish(keys, args)
  redis.call('HSET', keys[1], 'partitions', args[1], 'ever', args[2])
  return redis.call('HDEL', keys[1], 'resizing')
end

-- Where a message has moved to: number. Empty when it has not.
local function locate(keys, args)
  return redis.call('HGET', keys[1] .. ':moved', args[1]) or ''
end

-- Some messages that have moved: cursor. Answers the next cursor, then number and new place of each.
local function moves(keys, args)
  local found = redis.call('HSCAN', keys[1] .. ':moved', args[1], 'COUNT', 512)
  table.insert(found[2], 1, found[1])
  return found[2]
end

-- Whether anything is known of messages: numbers. 1 or 0 for each.
local function known(keys, args)
  local p, answer = keys[1], {}
  for _, n in ipairs(args) do
    local number = tonumber(n)
    local found = redis.call('HEXISTS', p .. ':results:' .. str(bucket(number)), n) == 1
      or redis.call('HEXISTS', p .. ':deferred', n) == 1 or redis.call('HEXISTS', p .. ':dead', n) == 1
      or redis.call('HEXISTS', p .. ':moved', n) == 1 or letter(p, number)
    answer[#answer + 1] = found and 1 or 0
  end
  return answer
end

-- Forgets where messages have moved to: numbers.
local function unmove(keys, args)
  return redis.call('HDEL', keys[1] .. ':moved', unpack(args))
end
-- Leases and nodes.

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
  redis.call('DEL', p .. ':crowd')
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
-- What all of it is called from outside. What frees memory, or keeps a promise already made, must go on
-- when memory is out; only accepting may be refused.

local function writes(name, callback)
  redis.register_function({ function_name = 'greenroom_1_' .. name, callback = callback, flags = { 'allow-oom' } })
end

local function looks(name, callback)
  redis.register_function({ function_name = 'greenroom_1_' .. name, callback = callback, flags = { 'no-writes' } })
end

redis.register_function('greenroom_1_append', append)
writes('receive', receive)
writes('commit', commit)
writes('redo', redo)
writes('begin', begin)
writes('cancel', cancel)
writes('refuse', refuse)
writes('redrive', redrive)
writes('discard', discard)
writes('expire', expire)
writes('acquire', acquire)
writes('release', release)
writes('fence', fence)
writes('arrive', arrive)
writes('depart', depart)
writes('keep', keep)
writes('unkeep', unkeep)
writes('refence', refence)
writes('settle', settle)
writes('mark', mark)
writes('finish', finish)
writes('unmove', unmove)
writes('join', join)
writes('beat', beat)
writes('give_up', give_up)
writes('leave', leave)
writes('pause', pause)
writes('resume', resume)
looks('open', open)
looks('lookup', lookup)
looks('due', due)
looks('parked', parked)
looks('blocked', blocked)
looks('dead', dead)
looks('journal', journal)
looks('journaled', journaled)
looks('books', books)
looks('members', members)
looks('paused', paused)
looks('numbers', numbers)
looks('others', others)
looks('pick', pick)
looks('idems', idems)
looks('fences', fences)
looks('locate', locate)
looks('moves', moves)
looks('known', known)
