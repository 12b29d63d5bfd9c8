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
