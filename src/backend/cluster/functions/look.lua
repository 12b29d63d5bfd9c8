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
