-- Changing how many partitions there are. A message is first put into its new partition, under a new
-- number, and remembered there by its old one; then it is taken out of the old partition, which remembers
-- its new place for good. Each function that changes a partition names the epoch of who resizes.

-- Why the one who resizes may not go on, or nothing.
local function foreign(p, epoch)
  return barred(p, open_book(p), epoch)
end

-- From now on only nodes that know this many partitions put anything in: epoch, partitions.
local function fence(keys, args)
  local head = open_book(keys[1])
  local refused = barred(keys[1], head, args[1])
  if refused then return refused end
  head.of = tonumber(args[2])
  close_book(keys[1], head)
  return 0
end

-- Numbers of messages in the mailbox: after, limit.
local function numbers(keys, args)
  local p, after, limit, answer = keys[1], tonumber(args[1]), tonumber(args[2]), {}
  for _, b in ipairs(redis.call('ZRANGEBYSCORE', p .. ':mails', str(slab(after)), '+inf')) do
    local page = {}
    for _, n in ipairs(redis.call('HKEYS', p .. ':mail:' .. b)) do
      if tonumber(n) > after then page[#page + 1] = tonumber(n) end
    end
    table.sort(page)
    for _, n in ipairs(page) do
      answer[#answer + 1] = n
      if #answer == limit then return answer end
    end
  end
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
  local head = open_book(p)
  local refused = barred(p, head, args[1]) or full(head)
  if refused then return refused end
  local arrived = p .. ':arrived'
  if redis.call('HGET', arrived, 'from') ~= from then
    redis.call('DEL', arrived)
    redis.call('HSET', arrived, 'from', from)
  end
  for _, n in ipairs(redis.call('HKEYS', arrived)) do
    if n ~= 'from' and tonumber(n) < first then redis.call('HDEL', arrived, n) end
  end
  for i = 4, #args, 5 do
    local n, place, bytes, attempts = args[i], args[i + 1], args[i + 2], tonumber(args[i + 3])
    local number = tonumber(redis.call('HGET', arrived, n))
    if not number then
      number = next_number(p, head)
      if place == '0' then
        gather(head.mail, number, bytes)
        head.bytes = head.bytes + #bytes
      elseif place == '1' then
        -- What cannot be read is due, so that its owner buries it.
        local d = record_of(bytes, 6) or { 1, 0, '', '', '', bytes }
        defer(p, number, d[1], d[2], d[3], d[4], d[5], d[6])
        head.bytes = head.bytes + #d[6]
      else
        redis.call('HSET', p .. ':dead', str(number), bytes)
        redis.call('ZADD', p .. ':deadline', str(number), str(number))
        head.dead = head.dead + 1
      end
      if attempts > 0 then redis.call('HSET', p .. ':attempts', str(number), str(attempts)) end
      if args[i + 4] ~= '' then record(p, number, cmsgpack.unpack(args[i + 4])) end
      redis.call('HSET', arrived, n, str(number))
    end
    answer[#answer + 1] = number
  end
  close_book(p, head)
  return answer
end

-- Removes messages that have arrived somewhere else: epoch, then number and new place of each.
local function depart(keys, args)
  local p = keys[1]
  local head = open_book(p)
  local refused = barred(p, head, args[1])
  if refused then return refused end
  for i = 2, #args, 2 do
    local n, number = args[i], tonumber(args[i])
    local bytes, packed = letter(p, number), redis.call('HGET', p .. ':deferred', n)
    local there = true
    if bytes then
      remove(p, head, slab(number), { n })
      head.bytes = head.bytes - #bytes
    elseif packed then
      local d = record_of(packed, 6)
      if d then
        undefer(p, number, d[3], d[4])
        head.bytes = head.bytes - #d[6]
      else
        redis.call('HDEL', p .. ':deferred', n)
        redis.call('ZREM', p .. ':timers', n)
      end
    elseif redis.call('HDEL', p .. ':dead', n) == 1 then
      redis.call('ZREM', p .. ':deadline', n)
      head.dead = head.dead - 1
    else
      there = false
    end
    if there then
      redis.call('HDEL', p .. ':attempts', n)
      close_journal(p, number, false)
      redis.call('HSET', p .. ':moved', n, args[i + 1])
      head.out = head.out + 1
    end
  end
  close_book(p, head)
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
  local refused = foreign(p, args[1])
  if refused then return refused end
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
  local refused = foreign(p, args[1])
  if refused then return refused end
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
  local refused = foreign(p, args[1])
  if refused then return refused end
  for i = 2, #args, 3 do
    local token = tonumber(args[i + 1])
    if token > num(redis.call('HGET', p .. ':fences', args[i])) then raise(p, args[i], token, tonumber(args[i + 2])) end
  end
  return 0
end

-- Lets a partition go: epoch, the epoch it has from now on, whether its last owner let go in order.
local function settle(keys, args)
  local p = keys[1]
  local head = open_book(p)
  local refused = barred(p, head, args[1])
  if refused then return refused end
  redis.call('DEL', p .. ':arrived')
  redis.call('HDEL', p .. ':head', 'answers')
  head.owner, head.epoch, head.serial = 0, tonumber(args[2]), 0
  close_book(p, head, { 'token', '', 'clean', args[3] })
  return 1
end

-- keys[1] of the next two is greenroom:{meta}. Says that the store is being resized: what to, or nothing.
local function mark(keys, args)
  if args[1] == '' then return redis.call('HDEL', keys[1], 'resize') end
  return redis.call('HSET', keys[1], 'resize', args[1])
end

-- Says that it is resized: partitions, and how many there ever were.
local function finish(keys, args)
  redis.call('HSET', keys[1], 'partitions', args[1], 'ever', args[2])
  return redis.call('HDEL', keys[1], 'resize')
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
    local found = redis.call('HEXISTS', p .. ':results:' .. str(slab(number)), n) == 1
      or redis.call('HEXISTS', p .. ':deferred', n) == 1 or redis.call('HEXISTS', p .. ':dead', n) == 1
      or redis.call('HEXISTS', p .. ':moved', n) == 1 or in_mailbox(p, number)
      or old_known(p, number)
    answer[#answer + 1] = found and 1 or 0
  end
  return answer
end

-- Forgets where messages have moved to: numbers.
local function unmove(keys, args)
  return redis.call('HDEL', keys[1] .. ':moved', unpack(args))
end
