-- A partition of store format 1, and how it becomes one of format 2 while messages are appended. Format 1 had
--
--   :mailbox   stream  <number>-0 → m envelope            :outbox  stream  <serial>-0 → q to, s seq, h head, e envelope
--   :counts    hash    the counts; swept                  :lease   hash    owner epoch clean serial answers
--   :results:B hash    number → result, B = number / 4096
--
-- and all else as it is now. 'seal' writes the head in one call and leaves a text where :counts and :lease were, for
-- good: a function of an older build finds the wrong type there before it writes anything. From then on messages are
-- appended in format 2, with numbers above all earlier ones. 'carry' moves the rest, some at a time, and remembers in
-- :old (phase low bucket cursor) what it is at; :old:ended holds the times of results until they are in :ended.
-- Each call is atomic and moves what is left: it may be repeated, and any node may make the next one.

local OLD_SLAB = 4096

local OLD_COUNTS = { 'last', 'bytes', 'completed', 'failed', 'dead', 'cancelled', 'out', 'of' }
local SEALED = 'format 2: see :head'

local function is_hash(key)
  return redis.call('TYPE', key).ok == 'hash'
end

-- The head of a partition that has none: its counts in format 1; nothing when there are none.
local function old_counts(p)
  if not is_hash(p .. ':counts') then return nil end
  local head = {}
  for i, value in ipairs(redis.call('HMGET', p .. ':counts', unpack(OLD_COUNTS))) do head[OLD_COUNTS[i]] = num(value) end
  return head
end

-- How far a partition is: 0 it has format 2, 1 it is being carried, 2 it has format 1, 3 it is empty.
local function age(p)
  if redis.call('EXISTS', p .. ':head') == 1 then return redis.call('EXISTS', p .. ':old') end
  if is_hash(p .. ':counts') or is_hash(p .. ':lease') then return 2 end
  return 3
end

-- A message, and a result, that are where format 1 had them.
local function old_letter(p, number)
  local found = redis.call('XRANGE', p .. ':mailbox', str(number) .. '-0', str(number) .. '-0')
  return found[1] and found[1][2][2]
end

local function old_result(p, number)
  return redis.call('HGET', p .. ':results:' .. str(math.floor(number / OLD_SLAB)), str(number))
end

-- Whether anything of a message is there.
local function old_known(p, number)
  return old_letter(p, number) or old_result(p, number)
end

-- Seals a partition that has no head. It is cold then: the next call confirms it. Answers whether it did.
local function seal(keys)
  local p = keys[1]
  if redis.call('EXISTS', p .. ':head') == 1 then return 0 end
  local counts, lease = old_counts(p) or {}, { '0', '0', '0' }
  local swept = '0'
  if is_hash(p .. ':lease') then lease = redis.call('HMGET', p .. ':lease', 'owner', 'epoch', 'clean') end
  if is_hash(p .. ':counts') then swept = redis.call('HGET', p .. ':counts', 'swept') or '0' end
  local head = read_book(nil)
  for field, value in pairs(counts) do head[field] = value end
  head.epoch, head.tick = num(lease[2]), 1
  local clean = (lease[1] or '0') == '0' and lease[3] or '0'
  redis.call('HSET', p .. ':head', 'book', pack_book(head), 'token', '', 'clean', clean)
  redis.call('SET', p .. ':counts', SEALED)
  redis.call('SET', p .. ':lease', SEALED)
  redis.call('HSET', p .. ':old', 'phase', 'mailbox', 'low', swept, 'cursor', '0',
    'bucket', str(math.floor((counts.last or 0) / OLD_SLAB)))
  return 1
end

-- Moves the first entries of a stream: at most so many, and about so many bytes. 'put' gathers one and says its
-- size. Answers how many, and whether that was all.
local function carry_stream(p, name, index, to, most, bytes, put)
  local count, size = 0, 0
  while count < most and size < bytes do
    local found = redis.call('XRANGE', p .. name, '-', '+', 'COUNT', math.min(most - count, 16))
    if #found == 0 then
      redis.call('DEL', p .. name)
      return count, true
    end
    local ids, slabs = {}, {}
    for i, entry in ipairs(found) do
      ids[i] = entry[1]
      size = size + put(slabs, tonumber(entry[1]:match('^%d+')), entry[2])
    end
    flush(p, to, slabs)
    for b in pairs(slabs) do redis.call('ZADD', p .. index, str(b), str(b)) end
    redis.call('XDEL', p .. name, unpack(ids))
    count = count + #ids
  end
  return count, false
end

local function put_letter(slabs, number, fields)
  gather(slabs, number, fields[2])
  return #fields[2]
end

local function put_parcel(slabs, serial, fields)
  local parcel = {}
  for i = 1, #fields, 2 do parcel[fields[i]] = fields[i + 1] end
  -- Format 1 had no eras: what it has sent, and what it has received, is of the first one.
  gather(slabs, serial, cmsgpack.pack({ tonumber(parcel.q), 0, tonumber(parcel.s), parcel.h, parcel.e }))
  return #parcel.e
end

-- Moves results of one bucket after the other, the newest ones first, and notes when each ended. A hash may hold
-- results of both formats, whose numbers tell which. Of the first bucket some stay where they are.
local function carry_results(p, state, most, bytes)
  local b, low, cursor, count, size = tonumber(state.bucket), tonumber(state.low), state.cursor, 0, 0
  for _ = 1, 256 do
    if b < low or count >= most or size >= bytes then break end
    local name, slabs, gone, times = p .. ':results:' .. str(b), {}, {}, {}
    local found = redis.call('HSCAN', name, cursor, 'COUNT', 64)
    for i = 1, #found[2], 2 do
      local n, body = found[2][i], found[2][i + 1]
      if math.floor(tonumber(n) / OLD_SLAB) == b then
        times[#times + 1] = body:sub(1, 16)
        times[#times + 1] = n
        if slab(tonumber(n)) ~= b then
          gather(slabs, tonumber(n), body)
          gone[#gone + 1] = n
        end
        count, size = count + 1, size + #body
      end
    end
    flush(p, ':results:', slabs)
    for at = 1, #times, 1000 do redis.call('ZADD', p .. ':old:ended', unpack(times, at, math.min(at + 999, #times))) end
    for at = 1, #gone, 1000 do redis.call('HDEL', name, unpack(gone, at, math.min(at + 999, #gone))) end
    cursor = found[1]
    if cursor == '0' then b = b - 1 end
  end
  redis.call('HSET', p .. ':old', 'bucket', str(b), 'cursor', cursor)
  return count, b < low
end

-- Puts results before those that have ended since, the last one first. Those of one time are one entry.
local function carry_ended(p, most)
  local popped, at, entry = redis.call('ZPOPMAX', p .. ':old:ended', most), nil, nil
  local function put()
    if entry then redis.call('LPUSH', p .. ':ended', cmsgpack.pack(entry)) end
  end
  for i = 1, #popped, 2 do
    if popped[i + 1] ~= at then
      put()
      at = popped[i + 1]
      entry = { tonumber(at) }
    end
    entry[#entry + 1] = tonumber(popped[i])
  end
  put()
  return #popped / 2, #popped == 0
end

-- The phase that comes after each.
local AFTER = { mailbox = 'outbox', outbox = 'results', results = 'ended' }

-- Moves some of what a sealed partition has in format 1: how many, and about how many bytes. Answers {what is left: 0
-- nothing, 1 results, 2 messages too; how many were moved}.
local function carry(keys, args)
  local p, most, bytes = keys[1], tonumber(args[1]), tonumber(args[2])
  local values = redis.call('HMGET', p .. ':old', 'phase', 'low', 'bucket', 'cursor')
  local state = { phase = values[1], low = values[2], bucket = values[3], cursor = values[4] }
  if not state.phase then return { 0, 0 } end
  local count, all
  if state.phase == 'mailbox' then
    count, all = carry_stream(p, ':mailbox', ':mails', ':mail:', most, bytes, put_letter)
  elseif state.phase == 'outbox' then
    count, all = carry_stream(p, ':outbox', ':outs', ':out:', most, bytes, put_parcel)
  elseif state.phase == 'results' then
    count, all = carry_results(p, state, most, bytes)
  else
    count, all = carry_ended(p, most)
  end
  local phase = all and AFTER[state.phase] or state.phase
  if all and not AFTER[state.phase] then
    redis.call('DEL', p .. ':old')
    return { 0, count }
  end
  if all then redis.call('HSET', p .. ':old', 'phase', phase) end
  return { (phase == 'mailbox' or phase == 'outbox') and 2 or 1, count }
end

-- How far a partition is (see age), and its epoch.
local function format(keys)
  local p = keys[1]
  local state = age(p)
  return { state, state == 2 and num(redis.call('HGET', p .. ':lease', 'epoch')) or open_book(p).epoch }
end

-- Which messages wait: numbers. 1 or 0 for each.
local function waiting(keys, args)
  local p, answer = keys[1], {}
  for i, n in ipairs(args) do
    answer[i] = (waits(p, tonumber(n)) or old_letter(p, tonumber(n))) and 1 or 0
  end
  return answer
end

-- KEYS[1] of the next two is greenroom:{meta}. What a build of format 1 reads as a resize that it cannot
-- read, so that it does not serve the store.
local TOO_OLD = 'format 2: this build is too old for it'

-- Makes a store unless there is one: partitions, secret, format.
local function create(keys, args)
  local meta = keys[1]
  if redis.call('HEXISTS', meta, 'partitions') == 0 then
    redis.call('HSET', meta, 'partitions', args[1], 'format', args[3], 'resizing', TOO_OLD)
  end
  redis.call('HSETNX', meta, 'secret', args[2])
  return 1
end

-- The store of format 1 changes to format 2: 'begin' keeps nodes of older builds from starting, 'off' lets them
-- again, 'finish' is for good. Answers the format it has, and 0 when it is being resized.
local function reform(keys, args)
  local meta = keys[1]
  if redis.call('HEXISTS', meta, 'format') == 1 then return num(redis.call('HGET', meta, 'format')) end
  local mark = redis.call('HGET', meta, 'resizing')
  if mark and mark ~= TOO_OLD then return 0 end
  if args[1] == 'off' then
    redis.call('HDEL', meta, 'resizing')
  elseif args[1] == 'begin' then
    redis.call('HSET', meta, 'resizing', TOO_OLD)
  else
    redis.call('HSET', meta, 'resizing', TOO_OLD, 'format', '2', 'upgraded', '1')
    return 2
  end
  return 1
end
