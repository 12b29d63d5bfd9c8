-- Confirming a partition on a server that may have lost some of it: a Redis that was killed and had not synced
-- its last second, a replica that was promoted, a restored backup, an emptied server, a slot that has moved.
--
-- A server knows that it may have: the head names the process that confirmed the partition ('run'), and a
-- process remembers how far it has seen the partition come ('tick'). Where either differs, every function
-- answers COLD and changes nothing, until a node has confirmed the partition:
--
-- * numbers go on above all that were ever reserved (MongoDB says how many), so none is given twice;
-- * the era rises, and sequences between partitions begin anew in it, so none of them is;
-- * the lease ends, and the next one has an epoch from MongoDB, so none of those is;
-- * what nodes know to have been accepted above the last number is counted as lost, and the numbers in
--   between are remembered: whose id is among them is told so, and never another's result.

-- Gaps that are remembered, before the oldest two become one.
local GAPS = 64

local function gaps(p)
  local packed = redis.call('HGET', p .. ':head', 'gaps')
  return packed and cmsgpack.unpack(packed) or {}
end

-- Whether a number was leapt over: it is lost, if it was ever given.
local function leapt(p, number)
  local list = gaps(p)
  for i = 1, #list, 3 do
    if list[i] <= number and number <= list[i + 1] then return true end
  end
  return false
end

-- The numbers of the newest gap that count as lost: the era that the server had, the lowest and the highest number.
local function told(p)
  local packed = redis.call('HGET', p .. ':head', 'told')
  return packed and cmsgpack.unpack(packed)
end

-- How many numbers there are from 'from' to 'to' that are not from 'low' to 'high', and where both together lie.
local function beside(from, to, low, high)
  if to < from then return 0, low, high end
  if high < low then return to - from + 1, from, to end
  local more = math.max(math.min(to, low - 1) - from + 1, 0) + math.max(to - math.max(from, high + 1) + 1, 0)
  return more, math.min(from, low), math.max(to, high)
end

-- Forgets what is remembered of the calls of nodes, which may have been rolled back.
local function evict(p)
  for _, field in ipairs(redis.call('HKEYS', p .. ':head')) do
    if field:match('^n%d+$') then redis.call('HDEL', p .. ':head', field) end
  end
end

-- How a partition stands: 1 when it is cold, owner, token, epoch, last, limit, era, and how far it is (see age).
local function peek(keys)
  local p = keys[1]
  local head = open_book(p, 'token')
  local is_cold = cold(p, head.run, head.tick) and 1 or 0
  return { is_cold, head.owner, head.token or '', head.epoch, head.last, head.limit, head.era, age(p) }
end

-- Adds to the lost numbers of the newest gap those that another node knows of an era before this one. Of the era that
-- the server had, numbers are lost from the gap's first one on; of a later one, which it has lost as a whole, from the
-- first one on that the node knows of: the numbers between were never given.
local function add_lost(p, head, list, first, known, of)
  local at = #list - 2
  local nothing = { head.era, 0, 0, 0, 0 }
  if at < 1 or of >= head.era or known > list[at + 1] then return nothing end
  local said = told(p) or { head.era - 1, list[at], list[at] + list[at + 2] - 1 }
  if of < said[1] then return nothing end
  local from = of == said[1] and list[at] or math.max(first, list[at])
  local more, low, high = beside(from, known, said[2], said[3])
  if more == 0 then return nothing end
  list[at + 2] = list[at + 2] + more
  head.lost = head.lost + more
  close_book(p, head, { 'gaps', cmsgpack.pack(list), 'told', cmsgpack.pack({ said[1], low, high }) })
  return { head.era, low, list[at + 1], list[at + 2], high }
end

-- Confirms a partition: epoch, era, base and limit that were reserved for it, and the highest number that the
-- caller knows to have been accepted in an era, which one, and the first one that it knows of in that era. Answers
-- {era, first number leapt over, last one, how many of them are known to be lost, the highest of these}, the first
-- one being the lowest of these if there are any; when it is confirmed already, only what is known is added.
local function warm(keys, args)
  local p, known, of, first = keys[1], tonumber(args[5]), tonumber(args[6]), tonumber(args[7])
  local head = open_book(p, 'clean')
  local list = gaps(p)
  if not barred(p, head) then return add_lost(p, head, list, first, known, of) end
  local era, base, limit = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  if era <= head.era or base < head.last or tonumber(args[1]) <= head.epoch then
    return { -1, head.epoch, head.last, head.era }
  end
  local from = of == head.era and head.last + 1 or math.max(first, head.last + 1)
  local lost, low, high = beside(from, of < head.era and 0 or math.min(known, base), 1, 0)
  -- Where there was nothing, nothing ran either; a partition of format 1 says how its last owner went.
  local clean = head.run == NO_RUN and (head.clean or '1') or '0'
  local former, more = head.owner, { 'token', '', 'clean', clean }
  head.run, head.owner, head.epoch, head.serial = run(), 0, tonumber(args[1]), 0
  if base > head.last then
    list[#list + 1] = head.last + 1
    list[#list + 1] = base
    list[#list + 1] = lost
    while #list > GAPS * 3 do
      list[2], list[3] = list[5], list[3] + list[6]
      for _ = 1, 3 do table.remove(list, 4) end
    end
    for _, field in ipairs({ 'gaps', cmsgpack.pack(list), 'told', cmsgpack.pack({ head.era, low, high }) }) do
      more[#more + 1] = field
    end
  end
  local opens = base > head.last and head.last + 1 or 0
  head.out = head.out + base - head.last
  head.lost = head.lost + lost
  head.last, head.limit, head.era = base, limit, era
  local b = str(slab(base + 1))
  redis.call('ZADD', p .. ':mails', b, b)
  -- Sequences begin anew; serials of the outbox go on, above all that a stale owner may still name.
  local serial = num(redis.call('HGET', p .. ':sent', 'serial')) + MARGIN
  local o = str(slab(serial + 1))
  redis.call('ZADD', p .. ':outs', o, o)
  redis.call('DEL', p .. ':sent', p .. ':crowd')
  redis.call('HSET', p .. ':sent', 'serial', str(serial))
  evict(p)
  ticks[p] = nil
  -- Who may have been running something: the next owner asks.
  if former ~= 0 then
    more[#more + 1] = 'former'
    more[#more + 1] = str(former)
  end
  close_book(p, head, more)
  wake(p, former, '', head.last, true)
  return { era, lost > 0 and low or opens, base, lost, high }
end

-- More numbers: the limit that was reserved.
local function extend(keys, args)
  local p = keys[1]
  local head = open_book(p)
  local refused = barred(p, head)
  if refused then return refused end
  head.limit = math.max(head.limit, tonumber(args[1]))
  close_book(p, head)
  return head.limit
end
