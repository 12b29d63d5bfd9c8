#!lua name=greenroom_1
-- Store format 2: what a partition is in Redis, and the functions that all others use. Redis runs one
-- function at a time, so each is atomic; each that an owner calls checks the owner's epoch first, and every
-- error is answered before the first write. KEYS[1] is the partition's prefix, such as greenroom:{0042}, so
-- that all its keys share a hash tag; KEYS[2] is its head. The first never exists: while a Redis Cluster
-- migrates the slot, one missing key makes it refuse the call on both sides, and nothing of it runs.
--
--   :head      hash   book: the counts and the lease, see BOOK; token of the owner, clean, former; gaps and told, see
--                     warm.lua; answers, begun, cancels: the answers to the owner's last calls; n<token> a node's last
--                     append
--   :mail:B    hash   number → envelope, B = number / 512; :mails zset of the B that may exist
--   :out:B     hash   serial → {to era seq head envelope}, B = serial / 512: what left for other partitions
--                     and has not arrived; :outs zset of the B that may exist
--   :sent      hash   partition → last sequence sent to it in this era; serial
--   :seen      hash   partition → <era>:<last sequence> received from it
--   :deferred  hash   number → {due parked kind key failures envelope}
--   :timers    zset   due → number, of deferred messages that have a time
--   :parked    zset   address NUL number, of deferred messages that their key waits for
--   :attempts  hash   number → attempts begun, where any were counted
--   :results:B hash   number → ended (16 digits) and JSON, B = number / 512
--   :ended     list   {ended number …} of results, in the order in which they ended
--   :dead      hash   number → {died attempts kind key failures envelope}, :deadline zset of numbers
--   :journal:N list   what message N has recorded
--   :journaled zset   numbers of messages that have a journal and have not ended; :kept of results
--   :crowd     hash   tenant → bytes it has, of those that have more than their share; share. Goes away by itself
--   :idem      hash   Idempotency-Key → {fingerprint number answer expires address partition}, :idemdue
--                     zset; the partition is there where the number is one of another partition
--   :fences    hash   lock → token of its newest holder that appended, :fencedue zset
--   :moved     hash   number → <partition>-<number> it has since the partitions were resized
--   :arrived   hash   while they are: old number → number, of what was taken last; from
--   :counts :lease    a text, where the store had format 1; :old while it is carried: see upgrade.lua
--
-- BOOK: last bytes completed failed dead cancelled lost: the counts; lost are messages that were accepted and
-- that a server lost. 'out' of the numbers up to 'last' are no messages that are or ended here: they have moved
-- to another partition, or were leapt over. So accepted = last - out + lost. 'of' is how many partitions there are, once they were resized.
-- owner epoch serial: the lease, and the last group of commits under it. limit era tick run: see warm.lua.

local SLAB = 512
-- So many numbers must be left before the limit when a call begins: more than one call can take.
local MARGIN = 1048576

local function num(x) return tonumber(x) or 0 end

-- The digits of an integer: Lua writes large numbers as 1e+15. Those of one call have all but the last three digits in
-- common, mostly, and to format a number costs more than all else that is done with it.
local digits, thousands, front = {}, 0, ''
local function str(x)
  local low = x % 1000
  local high = (x - low) / 1000
  if high <= 0 then return ('%d'):format(x) end
  if high ~= thousands then thousands, front = high, ('%d'):format(high) end
  local back = digits[low]
  if not back then
    back = ('%03d'):format(low)
    digits[low] = back
  end
  return front .. back
end

local function slab(number) return (number - number % SLAB) / SLAB end
local function member(kind, key, number) return kind .. '/' .. key .. '\0' .. string.format('%012x', number) end

local STALE = 'STALE another owner has taken over'
local COLD = 'COLD this server has not confirmed the partition, or has lost some of it'
local OVER = 'OVER whether this call happened is not remembered'
local RESERVE = 'RESERVE the numbers that were reserved are used up'

-- The process that this server is, and as which master, and the newest tick of each partition that it has seen:
-- memory of the process, which no replica and no later process has. A master that becomes a replica, and takes over
-- what that has, forgets it with its functions, and is another master when it is promoted again.
local process, ticks = nil, {}
local function run()
  if not process then
    local id = redis.call('INFO', 'server'):match('run_id:(%w+)'):sub(1, 20)
    process = id .. redis.call('INFO', 'replication'):match('master_replid:(%w+)'):sub(1, 20)
  end
  return process
end

-- The book of a partition is one field of fixed numbers: to read or write a field costs as much as all of it.
local BOOK = '<dddddddddddddddc40'
-- In place of the process that confirmed a partition, while none has.
local NO_RUN = ('0'):rep(40)

-- last bytes completed failed dead cancelled lost out of limit era tick owner epoch serial run
local function unpack_book(packed)
  if not packed then return 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NO_RUN end
  return struct.unpack(BOOK, packed)
end

local function pack_book(head)
  return struct.pack(BOOK, head.last, math.max(head.bytes, 0), head.completed, head.failed, math.max(head.dead, 0),
    head.cancelled, head.lost, head.out, head.of, head.limit, head.era, head.tick, head.owner, head.epoch, head.serial, head.run)
end

-- The book as a table, with further fields of the head, where there are any.
local function read_book(packed)
  local last, bytes, completed, failed, dead, cancelled, lost, out, of, limit, era, tick, owner, epoch, serial, run =
    unpack_book(packed)
  return {
    last = last, bytes = bytes, completed = completed, failed = failed, dead = dead, cancelled = cancelled, lost = lost,
    out = out, of = of, limit = limit, era = era, tick = tick, owner = owner, epoch = epoch, serial = serial, run = run,
    mail = {}, leaving = {}, ended = {}, was = packed,
  }
end

local function open_book(p, ...)
  local values = redis.call('HMGET', p .. ':head', 'book', ...)
  local head = read_book(values[1])
  for i = 1, select('#', ...) do head[select(i, ...)] = values[i + 1] end
  return head
end

-- Whether this server is another one than confirmed the partition, or has lost some of it.
local function cold(p, process, tick) return process ~= run() or tick < (ticks[p] or 0) end

-- Why an owner may not go on, or nothing.
local function barred(p, head, epoch)
  if cold(p, head.run, head.tick) then return redis.error_reply(COLD) end
  if epoch and head.epoch ~= tonumber(epoch) then return redis.error_reply(STALE) end
end

-- The same for what adds messages.
local function full(head)
  if head.last + MARGIN > head.limit then return redis.error_reply(RESERVE) end
end

local function flush(p, name, slabs)
  for b, pairs in pairs(slabs) do redis.call('HSET', p .. name .. str(b), unpack(pairs)) end
end

-- Writes what a call has changed of the head, and what it has gathered. 'more' are further fields of the
-- head; a call that has changed nothing of either writes nothing.
local function close_book(p, head, more)
  flush(p, ':mail:', head.mail)
  flush(p, ':out:', head.leaving)
  if #head.ended > 0 then
    table.insert(head.ended, 1, head.at)
    redis.call('RPUSH', p .. ':ended', cmsgpack.pack(head.ended))
  end
  if not more and pack_book(head) == head.was then return end
  head.tick = head.tick + 1
  ticks[p] = head.tick
  redis.call('HSET', p .. ':head', 'book', pack_book(head), unpack(more or {}))
end

-- Lets the owner look, unless it is the one who calls: that one knows.
local function wake(p, owner, node, last, timer)
  if owner ~= 0 and owner ~= tonumber(node) then
    local base, partition = p:match('^(.*):{(%d+)}$')
    owner = str(owner)
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

-- A record of so many fields at least; nothing when it cannot be read. A call that stopped there would have done half of it.
local function record_of(packed, fields)
  local fine, record = pcall(cmsgpack.unpack, packed)
  if fine and type(record) == 'table' and #record >= fields then return record end
end

-- A deferred message; nothing when it is gone. One that cannot be read is all envelope, and its owner buries it.
local function deferred(p, number)
  local packed = redis.call('HGET', p .. ':deferred', str(number))
  return packed and (record_of(packed, 6) or { 0, 0, '', '', '', packed })
end

local function undefer(p, number, kind, key)
  local n = str(number)
  redis.call('ZREM', p .. ':timers', n)
  redis.call('ZREM', p .. ':parked', member(kind, key, number))
  return redis.call('HDEL', p .. ':deferred', n)
end

local function letter(p, number)
  return redis.call('HGET', p .. ':mail:' .. str(slab(number)), str(number))
end

local function in_mailbox(p, number)
  return redis.call('HEXISTS', p .. ':mail:' .. str(slab(number)), str(number)) == 1
end

-- Whether a message is in the mailbox or deferred: it has not ended, nor is it dead.
local function waits(p, number)
  return redis.call('HEXISTS', p .. ':deferred', str(number)) == 1 or in_mailbox(p, number)
end

-- Removes messages of one slab from the mailbox. A slab that is still being filled stays in the index: the newest
-- one, and one for which this call has gathered messages that it writes at its end.
local function remove(p, head, b, numbers)
  local key = p .. ':mail:' .. str(b)
  redis.call('HDEL', key, unpack(numbers))
  if b ~= slab(head.last) and not head.mail[b] and redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', p .. ':mails', str(b))
  end
end

-- Numbers as texts, by slab.
local function by_slab(numbers)
  local slabs = {}
  for i = 1, #numbers do
    local b = slab(numbers[i])
    local of = slabs[b]
    if not of then
      of = {}
      slabs[b] = of
    end
    of[#of + 1] = str(numbers[i])
  end
  return slabs
end

local function remove_all(p, head, numbers)
  for b, of in pairs(by_slab(numbers)) do remove(p, head, b, of) end
end

-- Keeps a result.
local function result(p, number, body, head, at)
  redis.call('HSET', p .. ':results:' .. str(slab(number)), str(number), body)
  head.ended[#head.ended + 1] = number
  head.at = math.max(head.at or 0, at)
end

-- What a node says that has slept through a resize belongs somewhere else now.
local function resized(of, partitions)
  if of == 0 or of == tonumber(partitions) then return nil end
  return redis.error_reply('RESIZED the store has ' .. str(of) .. ' partitions now, and this node knows ' .. partitions)
end

local function gather(slabs, number, value)
  local b = slab(number)
  local of = slabs[b]
  if not of then
    of = {}
    slabs[b] = of
  end
  of[#of + 1] = str(number)
  of[#of + 1] = value
end

-- The next number. A slab is in the index from its first number on, whatever becomes of that.
local function next_number(p, head)
  head.last = head.last + 1
  if head.last % SLAB == 0 or head.last == 1 then
    local b = str(slab(head.last))
    redis.call('ZADD', p .. ':mails', b, b)
  end
  return head.last
end

-- Puts a message at the end of the mailbox, or among the deferred when what is said of it names a time.
local function add(p, head, about, envelope)
  local number = next_number(p, head)
  head.bytes = head.bytes + #envelope
  if about ~= '' then
    local h = cmsgpack.unpack(about)
    if h[1] ~= 0 then
      defer(p, number, h[1], 0, h[2], h[3], '', envelope)
      return true
    end
  end
  gather(head.mail, number, envelope)
  return false
end
