-- Looking, without changing anything.

-- The last number that was given.
local function last_of(p)
  local packed = redis.call('HGET', p .. ':head', 'book')
  return packed and (unpack_book(packed)) or num((old_counts(p) or {}).last)
end

-- Where a message is: number.
local function lookup(keys, args)
  local p, number = keys[1], tonumber(args[1])
  local body = redis.call('HGET', p .. ':results:' .. str(slab(number)), args[1])
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
  -- A partition of format 1 that is not carried yet.
  body = old_result(p, number)
  if body then return { 'result', body } end
  envelope = old_letter(p, number)
  if envelope then return { 'mailbox', envelope, attempts } end
  if leapt(p, number) then return { 'lost' } end
  return { 'none', last_of(p) }
end

-- Values of a set of slabs from a number on: at most so many values and about so many bytes. Number and value of
-- each, in order.
local function values(p, index, name, from, to, limit, most)
  local answer, size, count, b = {}, 0, 0, slab(from)
  while true do
    local found = redis.call('ZRANGEBYSCORE', p .. index, str(b), str(slab(to)), 'LIMIT', 0, 16)
    for _, s in ipairs(found) do
      local key, low, high = p .. name .. s, math.max(from, tonumber(s) * SLAB), math.min(to, tonumber(s) * SLAB + SLAB - 1)
      local len, at = redis.call('HLEN', key), low
      if len > 0 and len * 4 < high - low then
        -- Few are left: all of them cost less than asking for each.
        local numbers = {}
        for _, n in ipairs(redis.call('HKEYS', key)) do
          local number = tonumber(n)
          if number >= low and number <= high then numbers[#numbers + 1] = number end
        end
        table.sort(numbers)
        for _, number in ipairs(numbers) do
          local value = redis.call('HGET', key, str(number))
          answer[#answer + 1] = number
          answer[#answer + 1] = value
          count, size = count + 1, size + #value
          if count == limit or size >= most then return answer end
        end
      elseif len > 0 then
        while at <= high do
          local fields = {}
          for number = at, math.min(high, at + math.min(limit - count, 64) - 1) do fields[#fields + 1] = str(number) end
          for i, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
            if value then
              answer[#answer + 1] = at + i - 1
              answer[#answer + 1] = value
              count, size = count + 1, size + #value
              if count == limit or size >= most then return answer end
            end
          end
          at = at + #fields
        end
      end
    end
    if #found < 16 then return answer end
    b = tonumber(found[#found]) + 1
  end
end

-- What may be looked at by an owner: its epoch, or nothing for others.
local function hidden(p, epoch)
  if epoch == '' then return nil end
  return barred(p, open_book(p), epoch)
end

-- Messages in the mailbox: epoch (or nothing), after, up to (or nothing: all), limit, bytes. Number and envelope
-- of each.
local function read(keys, args)
  local p = keys[1]
  local refused = hidden(p, args[1])
  if refused then return refused end
  local to = args[3] == '' and last_of(p) or tonumber(args[3])
  return values(p, ':mails', ':mail:', tonumber(args[2]) + 1, to, tonumber(args[4]), tonumber(args[5]))
end

-- What has left and has not arrived: epoch, after, limit, bytes. Serial and {to era seq head envelope} of each.
local function leaving(keys, args)
  local p = keys[1]
  local refused = hidden(p, args[1])
  if refused then return refused end
  local to = num(redis.call('HGET', p .. ':sent', 'serial'))
  return values(p, ':outs', ':out:', tonumber(args[2]) + 1, to, tonumber(args[3]), tonumber(args[4]))
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

local BOOKS = { 'last', 'bytes', 'completed', 'failed', 'dead', 'cancelled', 'out', 'lost' }

local function entries(p, index, name)
  local count = 0
  for _, b in ipairs(redis.call('ZRANGE', p .. index, 0, -1)) do count = count + redis.call('HLEN', p .. name .. b) end
  return count
end

-- The books and what is there: counts as BOOKS, mailbox, deferred, dead, outbox, timers due at now.
local function books(keys, args)
  local p, answer = keys[1], {}
  local old = age(p) == 2 and old_counts(p)
  local head = old or open_book(p)
  for i, count in ipairs(BOOKS) do answer[i] = num(head[count]) end
  answer[#answer + 1] = entries(p, ':mails', ':mail:') + redis.call('XLEN', p .. ':mailbox')
  answer[#answer + 1] = redis.call('HLEN', p .. ':deferred')
  answer[#answer + 1] = redis.call('HLEN', p .. ':dead')
  answer[#answer + 1] = entries(p, ':outs', ':out:') + redis.call('XLEN', p .. ':outbox')
  answer[#answer + 1] = redis.call('ZCOUNT', p .. ':timers', '-inf', args[1])
  return answer
end

-- What a partition says of its sequences: era; how many messages it has lost; then partition and sequence of each that it sends to; then 'seen',
-- and partition and <era>:<sequence> of each that it has received from; then 'out', and partition and number of
-- its parcels of this era that have not arrived.
local function sequences(keys)
  local p = keys[1]
  local head = open_book(p)
  local era = head.era
  local answer, waiting = { era, head.lost, 'sent' }, {}
  for _, value in ipairs(redis.call('HGETALL', p .. ':sent')) do answer[#answer + 1] = value end
  answer[#answer + 1] = 'seen'
  for _, value in ipairs(redis.call('HGETALL', p .. ':seen')) do answer[#answer + 1] = value end
  answer[#answer + 1] = 'out'
  for _, b in ipairs(redis.call('ZRANGE', p .. ':outs', 0, -1)) do
    for _, packed in ipairs(redis.call('HVALS', p .. ':out:' .. b)) do
      local fine, parcel = pcall(cmsgpack.unpack, packed)
      if fine and type(parcel) == 'table' and parcel[2] == era then waiting[parcel[1]] = (waiting[parcel[1]] or 0) + 1 end
    end
  end
  -- Those of format 1 are of the first era.
  local from = '-'
  while era == 0 do
    local found = redis.call('XRANGE', p .. ':outbox', from, '+', 'COUNT', 512)
    for _, entry in ipairs(found) do
      local to = tonumber(entry[2][2])
      waiting[to] = (waiting[to] or 0) + 1
    end
    if #found < 512 then break end
    from = '(' .. found[#found][1]
  end
  for to, count in pairs(waiting) do
    answer[#answer + 1] = to
    answer[#answer + 1] = count
  end
  return answer
end
