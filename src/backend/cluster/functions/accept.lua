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

-- Puts messages of which nothing is said into the mailbox: from here on, the arguments are a place for the number of
-- each, and its envelope.
local function append_plain(p, args, from, first)
  local at, b = from, slab(first)
  for i = from, #args, 2 do
    local number = first + (i - from) / 2
    if number % SLAB == 0 and i > from then
      redis.call('HSET', p .. ':mail:' .. str(b), unpack(args, at, i - 1))
      at, b = i, b + 1
    end
    if number % SLAB == 0 or number == 1 then redis.call('ZADD', p .. ':mails', str(b), str(b)) end
    args[i] = str(number)
  end
  redis.call('HSET', p .. ':mail:' .. str(b), unpack(args, at))
end

-- Appends messages one by one, each as is said of it. Answers as append does.
local function append_each(p, mine, args)
  local head, budget, answers, mail, timer, plain = open_book(p), tonumber(args[5]), {}, false, false, true
  local tenants = args[7] ~= '' and redis.call('EXISTS', p .. ':crowd') == 1 and cmsgpack.unpack(args[7])
  local first = head.last + 1
  for i = 9, #args, 2 do
    local about, envelope = args[i], args[i + 1]
    local answer
    if about ~= '' or tenants or head.bytes + #envelope > budget then
      local h = about ~= '' and cmsgpack.unpack(about)
      local idem, lock = h and h[4], h and h[9]
      if idem then
        local packed = redis.call('HGET', p .. ':idem', idem)
        local seen = packed and record_of(packed, 4)
        if seen and seen[4] > h[8] then
          if seen[1] == h[5] then answer = { 'seen', seen[2], seen[3], seen[6] } else answer = { 'mismatch' } end
        end
      end
      if not answer and tenants then
        local bytes, share = crowding(p, tenants[(i - 7) / 2])
        if bytes then answer = { 'full', bytes, share } end
      end
      if not answer and lock then
        local newest = num(redis.call('HGET', p .. ':fences', lock))
        if h[10] < newest then answer = { 'fenced', newest } end
      end
      if not answer and head.bytes + #envelope > budget then answer = { 'full', head.bytes } end
      if not answer then
        if idem then
          redis.call('HSET', p .. ':idem', idem, cmsgpack.pack({ h[5], head.last + 1, h[6], h[7], h[2] .. '/' .. h[3] }))
          redis.call('ZADD', p .. ':idemdue', str(h[7]), idem)
        end
        if lock then raise(p, lock, h[10], h[11]) end
      end
    end
    if not answer then
      if add(p, head, about, envelope) then timer = true else mail = true end
      answer = head.last
    else
      plain = false
    end
    answers[#answers + 1] = answer
  end
  local text = plain and str(first) .. ' ' .. str(#answers) or cmsgpack.pack(answers)
  close_book(p, head, { mine, args[3] .. ':' .. text })
  wake(p, head.owner, args[1], mail and head.last, timer)
  if plain then return { head.era, first, #answers } end
  return { head.era, 0, answers }
end

-- node, token and serial of the call, whether it is repeated, budget, partitions, tenants, the bytes of all
-- messages if nothing is said of any of them, then what is said of each message, and its envelope. Serials rise, and a
-- node has one call on its way: one that comes again because its answer was lost is answered again, one that comes
-- after a later one is refused, and so is one that comes again where nothing is remembered, since it may have
-- happened. The memory of a call is its serial, a colon, and first number and count, or the answers (packed).
-- The tenants are nothing, when no message has one, or that of each (packed), which is nothing for a message that has
-- none. Of a message nothing is said, or {due kind key}, or {due kind key idempotency fingerprint answer
-- expires now}, or these (false where there is no idempotency key) and {lock token forgotten}: who of a lock's
-- holders appends. Answers {era first count}, when all were new, or {era 0 answers}.
local function append(keys, args)
  local p, mine, sent = keys[1], 'n' .. args[2], tonumber(args[3])
  local values = redis.call('HMGET', p .. ':head', 'book', mine)
  local last, bytes, completed, failed, dead, cancelled, lost, out, of, limit, era, tick, owner, epoch, serial, process =
    unpack_book(values[1])
  if cold(p, process, tick) then return redis.error_reply(COLD) end
  local said = values[2] and tonumber(values[2]:match('^%d+'))
  if said == sent then
    local first, count = values[2]:match('^%d+:(%d+) (%d+)$')
    if first then return { era, tonumber(first), tonumber(count) } end
    return { era, 0, cmsgpack.unpack(values[2]:match('^%d+:(.*)$')) }
  end
  if said and said > sent or not said and args[4] == '1' then return redis.error_reply(OVER) end
  if last + MARGIN > limit then return redis.error_reply(RESERVE) end
  local refused = resized(of, args[6])
  if refused then return refused end
  bytes = bytes + (tonumber(args[8]) or math.huge)
  if bytes > tonumber(args[5]) or args[7] ~= '' and redis.call('EXISTS', p .. ':crowd') == 1 then
    return append_each(p, mine, args)
  end
  local first, count = last + 1, (#args - 8) / 2
  append_plain(p, args, 9, first)
  last = last + count
  ticks[p] = tick + 1
  redis.call('HSET', p .. ':head', 'book',
    struct.pack(BOOK, last, bytes, completed, failed, dead, cancelled, lost, out, of, limit, era, tick + 1, owner, epoch, serial, process),
    mine, args[3] .. ':' .. str(first) .. ' ' .. str(count))
  wake(p, owner, args[1], last, false)
  return { era, first, count }
end

-- The era and sequence up to which something has come from a partition.
local function seen_of(p, from)
  local text = redis.call('HGET', p .. ':seen', from)
  if not text then return 0, 0 end
  local era, seq = text:match('^(%d+):(%d+)$')
  if era then return tonumber(era), tonumber(seq) end
  return 0, num(text)
end

-- What another partition's outbox sends: node, sender, era, whether a gap is accepted, then sequence, what is
-- said of it and envelope of each, in order. A sequence of an era is taken once, and none is skipped; of an
-- older era than the newest one met everything is known, since a sender empties its outbox in order. Answers
-- the number of the first one taken, how many were known before, how many were taken, how many are missing where a
-- gap was accepted, and this partition's era; or 'gap'. Missing messages were taken once, since the sender has removed
-- them, and this server has lost them: 'warm' counts the loss, and it is not counted here again.
local function receive(keys, args)
  local p, era = keys[1], tonumber(args[3])
  local head = open_book(p)
  local refused = barred(p, head) or full(head)
  if refused then return refused end
  local met, seen = seen_of(p, args[2])
  local began, known, missing, timer, mail, newest = head.last + 1, 0, 0, false, false, seen
  if era > met then newest = 0 end
  for i = 5, #args, 3 do
    local seq = tonumber(args[i])
    if era < met or seq <= newest then
      known = known + 1
    else
      if seq ~= newest + 1 then
        if args[4] ~= '1' then
          if head.last < began then return { 'gap', newest } end
          break
        end
        missing = missing + seq - newest - 1
      end
      if add(p, head, args[i + 1], args[i + 2]) then timer = true else mail = true end
      newest = seq
    end
  end
  if mail or timer then
    redis.call('HSET', p .. ':seen', args[2], str(era) .. ':' .. str(newest))
    close_book(p, head)
    wake(p, head.owner, args[1], mail and head.last, timer)
  end
  return { began, known, head.last - began + 1, missing, head.era }
end
