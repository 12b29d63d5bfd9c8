#!lua name=greenroom_1
-- Store format 2: what a partition is in Redis, and the functions that all others use. Redis runs one
-- function at a time, so each is atomic; each that an owner calls checks the owner's epoch first, and every
-- error is answered before the first write. KEYS[1] is the partition's prefix, such as greenroom:{0042}, so
-- that all its keys share a hash tag; KEYS[2] is its head. The first never exists: while a Redis Cluster
-- migrates the slot, one missing key makes it refuse the call on both sides, and nothing of it runs.
--
--   :head      hash   the counts and the lease, see HEAD; n<token> what a node appended last
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
-- HEAD: last bytes completed failed dead cancelled lost: the counts; lost are messages that were accepted and
-- that a server lost. 'out' of the numbers up to 'last' are no messages that are or ended here: they have moved
-- to another partition, or were leapt over. So accepted = last - out + lost. 'of' is how many partitions there are, once they were resized.
-- owner token epoch clean serial answers: the lease, and the last group of commits under it.
-- run tick era limit gaps: see warm.lua.

local SLAB = 512
-- So many numbers must be left before the limit when a call begins: more than one call can take.
local MARGIN = 1048576

local function num(x) return tonumber(x) or 0 end
-- Lua writes large numbers as 1e+15.
local function str(x) return string.format('%d', x) end
local function slab(number) return math.floor(number / SLAB) end
local function member(kind, key, number) return kind .. '/' .. key .. '\0' .. string.format('%012x', number) end

local STALE = 'STALE another owner has taken over'
local COLD = 'COLD this server has not confirmed the partition, or has lost some of it'
local OVER = 'OVER whether this call happened is not remembered'
local RESERVE = 'RESERVE the numbers that were reserved are used up'

-- The process that this server is, and the newest tick of each partition that it has seen: memory of the
-- process, which no replica and no later process has.
local process, ticks = nil, {}
local function run()
  if not process then process = redis.call('INFO', 'server'):match('run_id:(%w+)') end
  return process
end

-- Numbers of the head that a call may change, read once and written once, those that have changed.
local COUNTS = { 'last', 'bytes', 'completed', 'failed', 'dead', 'cancelled', 'lost', 'out', 'of', 'limit', 'era', 'tick' }
-- What is read of the head beside them.
local TEXTS = { 'run', 'owner', 'epoch', 'serial', 'answers' }

-- Reads the head: numbers and texts of it, by name.
local function open_head(p, counts, texts)
  local fields = {}
  for i = 1, #counts do fields[i] = counts[i] end
  for i = 1, #texts do fields[#fields + 1] = texts[i] end
  local values = redis.call('HMGET', p .. ':head', unpack(fields))
  local head, was = {}, {}
  for i = 1, #counts do
    local value = tonumber(values[i]) or 0
    head[counts[i]], was[counts[i]] = value, value
  end
  for i = 1, #texts do head[texts[i]] = values[#counts + i] end
  head.was, head.mail, head.leaving, head.ended = was, {}, {}, {}
  return head
end

local function open_book(p) return open_head(p, COUNTS, TEXTS) end

-- Why an owner may not go on, or nothing.
local function barred(p, head, epoch)
  if head.run ~= run() or head.tick < (ticks[p] or 0) then return redis.error_reply(COLD) end
  if epoch and head.epoch ~= epoch then return redis.error_reply(STALE) end
end

-- The same for what adds messages.
local function full(head)
  if head.last + MARGIN > head.limit then return redis.error_reply(RESERVE) end
end

local function flush(p, name, slabs)
  for b, pairs in pairs(slabs) do redis.call('HSET', p .. name .. str(b), unpack(pairs)) end
end

-- Writes what a call has changed of the head, and what it has gathered. 'more' are further fields of the head.
local function close_book(p, head, more)
  flush(p, ':mail:', head.mail)
  flush(p, ':out:', head.leaving)
  if #head.ended > 0 then
    table.insert(head.ended, 1, head.at)
    redis.call('RPUSH', p .. ':ended', cmsgpack.pack(head.ended))
  end
  local args = more or {}
  for field, was in pairs(head.was) do
    local value = head[field]
    if value ~= was then
      args[#args + 1] = field
      args[#args + 1] = str(math.max(value, 0))
    end
  end
  if #args == 0 then return end
  head.tick = head.was.tick + 1
  ticks[p] = head.tick
  args[#args + 1] = 'tick'
  args[#args + 1] = str(head.tick)
  redis.call('HSET', p .. ':head', unpack(args))
end

-- Lets the owner look, unless it is the one who calls: that one knows.
local function wake(p, owner, node, last, timer)
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
local function resized(head, partitions)
  if head.of == 0 or head.of == tonumber(partitions) then return nil end
  return redis.error_reply('RESIZED the store has ' .. str(head.of) .. ' partitions now, and this node knows ' .. partitions)
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
