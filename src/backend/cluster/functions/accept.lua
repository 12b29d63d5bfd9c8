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
