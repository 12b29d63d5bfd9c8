-- Ending, deferring and parking messages: what a commit does besides the state.

local NONE = {}

local function set(numbers)
  if not numbers then return NONE end
  local members = {}
  for _, n in ipairs(numbers) do members[n] = true end
  return members
end

-- Applies one commit {done deferred parked outbox kind key at journals alone recorded}: all of it, or
-- nothing when the message whose number is answered is gone; 0 when it was applied. The last three are
-- there where a commit has to do with journals: what is written to them, deferred messages that their
-- key does not wait for, and those that end and have a journal.
local function apply_one(p, c, book, out)
  local done, deferred, parked, outbox, kind, key = c[1], c[2], c[3], c[4], c[5], c[6]
  local mail, moved, written, there = {}, {}, c[8], nil
  -- First what can refuse.
  if written then
    local gone
    there, gone = writable(p, written)
    if gone then return gone end
  end
  for i = 1, #done, 6 do
    local n, home, status = done[i], done[i + 1], done[i + 2]
    -- One that is recalled may have ended, and then the note that recalls it must not end with it.
    if status >= 2 or home == 1 then
      if home == 0 then
        moved[n] = letter(p, n)
      else
        local packed = redis.call('HGET', p .. ':deferred', str(n))
        moved[n] = packed and cmsgpack.unpack(packed)[6]
      end
      if not moved[n] then return n end
    end
    if home == 0 then mail[#mail + 1] = id(n) end
  end
  for i = 1, #deferred, 5 do
    local n, home = deferred[i], deferred[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      mail[#mail + 1] = id(n)
    else
      local packed = redis.call('HGET', p .. ':deferred', str(n))
      moved[n] = packed and cmsgpack.unpack(packed)[6]
    end
    if not moved[n] then return n end
  end
  for i = 1, #parked, 2 do
    -- One that is gone was cancelled while it waited: nothing was decided of it but that it waits.
    local n, home = parked[i], parked[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      if moved[n] then mail[#mail + 1] = id(n) end
    else
      local packed = redis.call('HGET', p .. ':deferred', str(n))
      moved[n] = packed and cmsgpack.unpack(packed)
    end
  end
  if #mail > 0 then
    local removed = 0
    for i = 1, #mail, 1000 do
      removed = removed + redis.call('XDEL', p .. ':mailbox', unpack(mail, i, math.min(i + 999, #mail)))
    end
    if removed == 0 then return done[1] or deferred[1] or parked[1] end
  end
  local alone, recorded = set(c[9]), set(c[10])
  if written then record_all(p, written, there) end
  for i = 1, #done, 6 do
    local n, home, status, attempts, size, body = done[i], done[i + 1], done[i + 2], done[i + 3], done[i + 4], done[i + 5]
    if home == 1 then undefer(p, n, kind, key) end
    if status == 3 then
      redis.call('HSET', p .. ':dead', str(n), cmsgpack.pack({ c[7], attempts, kind, key, body, moved[n] }))
      redis.call('ZADD', p .. ':deadline', str(n), str(n))
      book.dead = book.dead + 1
    else
      if body then result(p, n, body, book) end
      local count = status == 0 and 'completed' or status == 1 and 'failed' or 'cancelled'
      book[count] = book[count] + 1
      if recorded[n] or there and there[n] then close_journal(p, n, body) end
    end
    book.bytes = book.bytes - size
    if out.counted then redis.call('HDEL', p .. ':attempts', str(n)) end
  end
  for i = 1, #deferred, 5 do
    local n, home, due, attempts, failures = deferred[i], deferred[i + 1], deferred[i + 2], deferred[i + 3], deferred[i + 4]
    defer(p, n, due, alone[n] and 0 or 1, kind, key, failures, moved[n])
    if alone[n] and home == 1 then redis.call('ZREM', p .. ':parked', member(kind, key, n)) end
    if attempts > 0 then
      redis.call('HSET', p .. ':attempts', str(n), str(attempts))
      out.counted = true
    elseif out.counted then
      redis.call('HDEL', p .. ':attempts', str(n))
    end
  end
  for i = 1, #parked, 2 do
    local n, home = parked[i], parked[i + 1]
    if moved[n] and home == 0 then
      defer(p, n, 0, 1, kind, key, '', moved[n])
    elseif moved[n] then
      defer(p, n, 0, 1, kind, key, moved[n][5], moved[n][6])
    end
  end
  if written then rouse(p, written, c[7]) end
  for i = 1, #outbox, 3 do
    local to, head, envelope = outbox[i], outbox[i + 1], outbox[i + 2]
    local sent = out.sent
    if to == out.me then
      local timer = add(p, book, head, envelope)
      sent[#sent + 1] = 0
      sent[#sent + 1] = book.last
      sent[#sent + 1] = timer and 1 or 0
    else
      local q = str(to)
      out.seqs = out.seqs or {}
      out.serial = out.serial or num(redis.call('HGET', p .. ':sent', 'serial'))
      out.seqs[q] = (out.seqs[q] or num(redis.call('HGET', p .. ':sent', q))) + 1
      out.serial = out.serial + 1
      redis.call('XADD', p .. ':outbox', id(out.serial), 'q', q, 's', str(out.seqs[q]), 'h', head, 'e', envelope)
      sent[#sent + 1] = out.serial
      sent[#sent + 1] = to
      sent[#sent + 1] = out.seqs[q]
    end
  end
  return 0
end

local function begin_group(p)
  return {
    me = tonumber(p:match('{(%d+)}$')),
    sent = {},
    counted = redis.call('EXISTS', p .. ':attempts') == 1,
  }
end

local function end_group(p, book, out)
  close_book(p, book)
  if out.seqs then
    local args = { 'serial', str(out.serial) }
    for q, seq in pairs(out.seqs) do
      args[#args + 1] = q
      args[#args + 1] = str(seq)
    end
    redis.call('HSET', p .. ':sent', unpack(args))
  end
end

-- Messages that ended, and nothing else: {completed failed bytes ids numbers results}, results being
-- bucket and {number body …} of each. Only the owner takes messages out of a mailbox, and it does not say
-- so of one twice: all are there, or it is an answer that was lost. How many were there.
local function end_all(p, plain, book, out)
  local ids, numbers, removed = plain[4], plain[5], 0
  for i = 1, #ids, 1000 do
    removed = removed + redis.call('XDEL', p .. ':mailbox', unpack(ids, i, math.min(i + 999, #ids)))
  end
  if removed == 0 then return 0 end
  book.completed = book.completed + plain[1]
  book.failed = book.failed + plain[2]
  book.bytes = book.bytes - plain[3]
  for i = 1, #plain[6], 2 do
    local b, pairs = plain[6][i], plain[6][i + 1]
    for at = 1, #pairs, 1000 do
      redis.call('HSET', p .. ':results:' .. str(b), unpack(pairs, at, math.min(at + 999, #pairs)))
    end
    if b < book.swept then book.swept = b end
  end
  if out.counted then
    for i = 1, #numbers, 1000 do redis.call('HDEL', p .. ':attempts', unpack(numbers, i, math.min(i + 999, #numbers))) end
  end
  return removed
end

-- A group of commits under a lease: epoch, serial of the group, those that only end messages (or
-- nothing), then each of the others. Answers {answers of the others, how many ended, sent}; a group
-- that comes again, because its answer was lost, is answered again, with 'again' instead of what was
-- sent.
local function commit(keys, args)
  local p = keys[1]
  local lease = redis.call('HMGET', p .. ':lease', 'epoch', 'serial', 'answers')
  if lease[1] ~= args[1] then return redis.error_reply('STALE another owner has taken over') end
  if lease[2] == args[2] then
    local kept = cmsgpack.unpack(lease[3])
    return { kept[1], kept[2], 'again' }
  end
  local book, out, answers, ended = open_book(p), begin_group(p), {}, 0
  if args[3] ~= '' then ended = end_all(p, cmsgpack.unpack(args[3]), book, out) end
  for i = 4, #args do answers[i - 3] = apply_one(p, cmsgpack.unpack(args[i]), book, out) end
  end_group(p, book, out)
  redis.call('HSET', p .. ':lease', 'serial', args[2], 'answers', cmsgpack.pack({ answers, ended }))
  return { answers, ended, out.sent }
end
