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
