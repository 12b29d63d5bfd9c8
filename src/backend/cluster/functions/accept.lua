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

local ACCEPTS = { 'last', 'bytes', 'of', 'limit', 'era', 'tick' }

-- node, token and serial of the call, whether it is repeated, budget, partitions, tenants, then what is said of
-- each message, and its envelope. A call that is repeated because its answer was lost is answered again. The
-- tenants are nothing, when none of them is anybody's, or that of each (packed), which is nothing where it is
-- nobody's. Of a message nothing is said, or {due kind key}, or {due kind key idempotency fingerprint answer
-- expires now}, or these (false where there is no idempotency key) and {lock token forgotten}: who of a lock's
-- holders appends. Answers {era first count}, when all were new, or {era 0 answers}.
local function append(keys, args)
  local p, mine = keys[1], 'n' .. args[2]
  local head = open_head(p, ACCEPTS, { 'run', 'owner', mine })
  local refused = barred(p, head)
  if refused then return refused end
  local said = head[mine] and cmsgpack.unpack(head[mine])
  if said and said[1] == args[3] then return { head.era, said[2], said[3] } end
  if args[4] == '1' then
    -- Serials rise. Where nothing is remembered of an earlier call, this one may have happened.
    local last = said and tonumber(said[1])
    if not last and args[3] ~= '1' or last and last > tonumber(args[3]) then return redis.error_reply(OVER) end
  end
  refused = full(head) or resized(head, args[6])
  if refused then return refused end
  local budget, answers, mail, timer, plain = tonumber(args[5]), {}, false, false, true
  local tenants = args[7] ~= '' and redis.call('EXISTS', p .. ':crowd') == 1 and cmsgpack.unpack(args[7])
  local first = head.last + 1
  for i = 8, #args, 2 do
    local about, envelope = args[i], args[i + 1]
    local answer
    if about ~= '' or tenants or head.bytes + #envelope > budget then
      local h = about ~= '' and cmsgpack.unpack(about)
      local idem, lock = h and h[4], h and h[9]
      if idem then
        local packed = redis.call('HGET', p .. ':idem', idem)
        local seen = packed and cmsgpack.unpack(packed)
        if seen and seen[4] > h[8] then
          if seen[1] == h[5] then answer = { 'seen', seen[2], seen[3], seen[6] } else answer = { 'mismatch' } end
        end
      end
      if not answer and tenants then
        local bytes, share = crowding(p, tenants[(i - 6) / 2])
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
  said = plain and { args[3], first, #answers } or { args[3], 0, answers }
  close_book(p, head, { mine, cmsgpack.pack(said) })
  wake(p, head.owner, args[1], mail and head.last, timer)
  return { head.era, said[2], said[3] }
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
-- gap was accepted, and this partition's era; or 'gap'. What is missing was taken once, since the sender has removed
-- it, and this server has lost it: the loss is counted where it is confirmed, and not here again.
local function receive(keys, args)
  local p, era = keys[1], tonumber(args[3])
  local head = open_head(p, { 'last', 'bytes', 'limit', 'era', 'tick' }, { 'run', 'owner' })
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
