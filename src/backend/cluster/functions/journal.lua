-- What running commands record before they go on: a list per message, which is a part of the message.
-- A commit writes {number flags entries …}: flags 1 when the message's own handler writes, and 2 when the
-- message is woken.

-- Which of the messages that are written to still wait; or nothing, and the number of one that is gone
-- though its own handler writes, unless the rest of the commit is applied all the same.
local function writable(p, written, rest)
  local there = {}
  for i = 1, #written, 3 do
    local n = written[i]
    local own = written[i + 1] % 2 == 1
    -- What came for a dead letter is there when it is redriven.
    if waits(p, n) or (not own and redis.call('HEXISTS', p .. ':dead', str(n)) == 1) then
      there[n] = true
    elseif own and not rest then
      return nil, n
    end
  end
  return there
end

-- Puts entries at the end of the journal of a message that has not ended.
local function record(p, number, entries)
  local n = str(number)
  for i = 1, #entries, 1000 do
    redis.call('RPUSH', p .. ':journal:' .. n, unpack(entries, i, math.min(i + 999, #entries)))
  end
  if #entries > 0 then redis.call('ZADD', p .. ':journaled', n, n) end
end

local function record_all(p, written, there)
  for i = 1, #written, 3 do
    if there[written[i]] then record(p, written[i], written[i + 2]) end
  end
end

-- Makes those due that are to be woken. What is parked behind another message has no time, and gets none;
-- a record that cannot be read is left to whoever reads it.
local function rouse(p, written, at)
  for i = 1, #written, 3 do
    local n = str(written[i])
    local packed = written[i + 1] >= 2 and redis.call('HGET', p .. ':deferred', n)
    if packed then
      local d = record_of(packed, 6)
      if d and d[1] > at then
        d[1] = math.max(at, 1)
        redis.call('HSET', p .. ':deferred', n, cmsgpack.pack(d))
        redis.call('ZADD', p .. ':timers', str(d[1]), n)
      end
    end
  end
end

-- The message has ended: its journal lies beside its result now, or is forgotten.
local function close_journal(p, number, kept)
  local n = str(number)
  if redis.call('ZREM', p .. ':journaled', n) == 0 then return end
  if kept then
    redis.call('ZADD', p .. ':kept', n, n)
  else
    redis.call('UNLINK', p .. ':journal:' .. n)
  end
end

-- Forgets the journals of results that are forgotten.
local function forget_journals(p, numbers)
  for _, number in ipairs(numbers) do
    local n = str(number)
    if redis.call('ZREM', p .. ':kept', n) == 1 then redis.call('UNLINK', p .. ':journal:' .. n) end
  end
end

-- The journal of a message that has not ended, as one value; empty when it has none.
local function carried(p, n)
  if not redis.call('ZSCORE', p .. ':journaled', n) then return '' end
  return cmsgpack.pack(redis.call('LRANGE', p .. ':journal:' .. n, 0, -1))
end

-- The entries of a journal: number.
local function journal(keys, args)
  return redis.call('LRANGE', keys[1] .. ':journal:' .. args[1], 0, -1)
end

-- Messages that have a journal and have not ended.
local function journaled(keys)
  return redis.call('ZRANGE', keys[1] .. ':journaled', 0, -1)
end
