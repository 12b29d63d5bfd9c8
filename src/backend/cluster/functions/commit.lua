-- Ending, deferring and parking messages: what a commit does besides the state.

local NONE = {}
-- No answers, packed.
local NOTHING = '\144'

local function set(numbers)
  if not numbers then return NONE end
  local members = {}
  for _, n in ipairs(numbers) do members[n] = true end
  return members
end

-- Corrects the homes in a list that names every message with its home, so many values each: a server that lost the
-- deferring of a message, or its waking, has it where it was before.
local function rehome(p, list, each)
  for i = 1, #list, each do
    local n, kept = list[i], redis.call('HEXISTS', p .. ':deferred', str(list[i])) == 1
    if list[i + 1] == 1 and not kept and in_mailbox(p, n) then list[i + 1] = 0 end
    if list[i + 1] == 0 and kept then list[i + 1] = 1 end
  end
end

-- Applies one commit {done deferred parked outbox kind key at journals alone recorded}: all of it, or
-- nothing when the message whose number is answered is gone; 0 when it was applied. The last three are
-- there where a commit has to do with journals: what is written to them, deferred messages that their
-- key does not wait for, and those that end and have a journal. 'rest' says that its state is written and its
-- witness waits: then a message that is gone was lost by the server, and the rest of the commit is applied.
local function apply_one(p, c, head, out, rest)
  local done, later, parked, outbox, kind, key, at = c[1], c[2], c[3], c[4], c[5], c[6], c[7]
  local mail, moved, records, written, there = {}, {}, {}, c[8], nil
  if rest then
    rehome(p, done, 6)
    rehome(p, later, 5)
    rehome(p, parked, 2)
  end
  -- First what can refuse: every message must be where it was, or another one has ended it.
  if written then
    local gone
    there, gone = writable(p, written, rest)
    if gone then return gone end
  end
  for i = 1, #done, 6 do
    local n, home, status = done[i], done[i + 1], done[i + 2]
    if home == 1 then
      records[n] = deferred(p, n)
      moved[n] = records[n] and records[n][6]
    else
      if status >= 2 then moved[n] = letter(p, n) else moved[n] = in_mailbox(p, n) end
      if moved[n] then mail[#mail + 1] = n end
    end
    if not moved[n] and not rest then return n end
  end
  for i = 1, #later, 5 do
    local n, home = later[i], later[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      if moved[n] then mail[#mail + 1] = n end
    else
      records[n] = deferred(p, n)
      moved[n] = records[n] and records[n][6]
    end
    if not moved[n] and not rest then return n end
  end
  for i = 1, #parked, 2 do
    -- One that is gone was cancelled while it waited: nothing was decided of it but that it waits.
    local n, home = parked[i], parked[i + 1]
    if home == 0 then
      moved[n] = letter(p, n)
      if moved[n] then mail[#mail + 1] = n end
    else
      moved[n] = deferred(p, n)
    end
  end
  if #done + #later == 0 and #parked > 0 then
    local any = false
    for i = 1, #parked, 2 do any = any or moved[parked[i]] end
    if not any then return parked[1] end
  end
  remove_all(p, head, mail)
  local alone, recorded = set(c[9]), set(c[10])
  if written then record_all(p, written, there) end
  for i = 1, #done, 6 do
    local n, home, status, attempts, size, body = done[i], done[i + 1], done[i + 2], done[i + 3], done[i + 4], done[i + 5]
    -- One that cannot be read is buried under another name than it was deferred by.
    if home == 1 then undefer(p, n, records[n] and records[n][3] or kind, records[n] and records[n][4] or key) end
    if not moved[n] then
      size = 0
    elseif status == 3 then
      redis.call('HSET', p .. ':dead', str(n), cmsgpack.pack({ at, attempts, kind, key, body, moved[n] }))
      redis.call('ZADD', p .. ':deadline', str(n), str(n))
      head.dead = head.dead + 1
    else
      if body then result(p, n, body, head, at) end
      local count = status == 0 and 'completed' or status == 1 and 'failed' or 'cancelled'
      head[count] = head[count] + 1
      if recorded[n] or there and there[n] then close_journal(p, n, body) end
    end
    head.bytes = head.bytes - size
    if out.counted then redis.call('HDEL', p .. ':attempts', str(n)) end
  end
  for i = 1, #later, 5 do
    local n, home, due, attempts, failures = later[i], later[i + 1], later[i + 2], later[i + 3], later[i + 4]
    if moved[n] then defer(p, n, due, alone[n] and 0 or 1, kind, key, failures, moved[n]) end
    if alone[n] and home == 1 then redis.call('ZREM', p .. ':parked', member(kind, key, n)) end
    if attempts > 0 and moved[n] then
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
  if written then rouse(p, written, at) end
  local sent = out.sent
  for i = 1, #outbox, 3 do
    local to, about, envelope = outbox[i], outbox[i + 1], outbox[i + 2]
    if to == out.me then
      local timer = add(p, head, about, envelope)
      sent[#sent + 1] = 0
      sent[#sent + 1] = head.last
      sent[#sent + 1] = timer and 1 or 0
    else
      local q = str(to)
      out.seqs = out.seqs or {}
      out.serial = (out.serial or num(redis.call('HGET', p .. ':sent', 'serial'))) + 1
      out.seqs[q] = (out.seqs[q] or num(redis.call('HGET', p .. ':sent', q))) + 1
      if out.serial % SLAB == 0 or out.serial == 1 then
        local b = str(slab(out.serial))
        redis.call('ZADD', p .. ':outs', b, b)
      end
      gather(head.leaving, out.serial, cmsgpack.pack({ to, head.era, out.seqs[q], about, envelope }))
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

local function end_group(p, head, out, more)
  close_book(p, head, more)
  if not out.seqs then return end
  local args = { 'serial', str(out.serial) }
  for q, seq in pairs(out.seqs) do
    args[#args + 1] = q
    args[#args + 1] = str(seq)
    if #args >= 1000 then
      redis.call('HSET', p .. ':sent', unpack(args))
      args = {}
    end
  end
  if #args > 0 then redis.call('HSET', p .. ':sent', unpack(args)) end
end

-- Whether all messages that are only to be ended are in the mailbox: slab and numbers of each slab.
local function all_there(p, slabs)
  for i = 1, #slabs, 2 do
    local found = redis.call('HMGET', p .. ':mail:' .. str(slabs[i]), unpack(slabs[i + 1]))
    for j = 1, #found do
      if not found[j] then return false end
    end
  end
  return true
end

-- Messages that ended, and nothing else: {completed failed bytes slabs results ended}, slabs being slab and
-- numbers of each, results slab and {number body …} of each, ended {at number …} of results. All are there.
local function end_all(p, plain, head, out)
  local slabs = plain[4]
  for i = 1, #slabs, 2 do
    remove(p, head, slabs[i], slabs[i + 1])
    if out.counted then redis.call('HDEL', p .. ':attempts', unpack(slabs[i + 1])) end
  end
  head.completed = head.completed + plain[1]
  head.failed = head.failed + plain[2]
  head.bytes = head.bytes - plain[3]
  for i = 1, #plain[5], 2 do
    redis.call('HSET', p .. ':results:' .. str(plain[5][i]), unpack(plain[5][i + 1]))
  end
  if #plain[6] > 0 then redis.call('RPUSH', p .. ':ended', cmsgpack.pack(plain[6])) end
end

-- A group of which all commits only end messages, as most do.
local function commit_plain(p, args)
  local last, bytes, completed, failed, dead, cancelled, lost, out, of, limit, era, tick, owner, epoch, serial, process =
    unpack_book(redis.call('HGET', p .. ':head', 'book'))
  if cold(p, process, tick) then return redis.error_reply(COLD) end
  local sent = tonumber(args[2])
  if epoch ~= tonumber(args[1]) or serial > sent then return redis.error_reply(STALE) end
  if serial == sent then return { cmsgpack.unpack(redis.call('HGET', p .. ':head', 'answers')), 'again' } end
  local plain = cmsgpack.unpack(args[3])
  if not all_there(p, plain[4]) then return { 'apart' } end
  local head = { last = last, bytes = bytes, completed = completed, failed = failed, mail = NONE }
  end_all(p, plain, head, { counted = redis.call('EXISTS', p .. ':attempts') == 1 })
  ticks[p] = tick + 1
  redis.call('HSET', p .. ':head', 'answers', NOTHING, 'book',
    struct.pack(BOOK, last, math.max(head.bytes, 0), head.completed, head.failed, dead, cancelled, lost, out, of, limit, era, tick + 1,
      owner, epoch, sent, process))
  return { NONE, NONE }
end

-- A group of commits under a lease: epoch, serial of the group, those that only end messages (or
-- nothing), then each of the others. Answers {answers of the others, sent}. A group that comes again, because
-- its answer was lost, is answered again, with 'again' instead of what was sent; one that comes after a later
-- one is stale. When a message that was only to be ended is not there, nothing is done, and the answer is
-- 'apart': each commit is then to be asked for by itself.
local function commit(keys, args)
  local p = keys[1]
  if #args == 3 and args[3] ~= '' then return commit_plain(p, args) end
  local head = open_book(p, 'answers')
  local refused = barred(p, head, args[1])
  if refused then return refused end
  local serial = tonumber(args[2])
  if head.serial == serial then return { cmsgpack.unpack(head.answers), 'again' } end
  if head.serial > serial then return redis.error_reply(STALE) end
  refused = #args > 3 and full(head)
  if refused then return refused end
  local plain = args[3] ~= '' and cmsgpack.unpack(args[3])
  if plain and not all_there(p, plain[4]) then return { 'apart' } end
  local out, answers = begin_group(p), {}
  if plain then end_all(p, plain, head, out) end
  for i = 4, #args do answers[i - 3] = apply_one(p, cmsgpack.unpack(args[i]), head, out) end
  head.serial = serial
  end_group(p, head, out, { 'answers', cmsgpack.pack(answers) })
  return { answers, out.sent }
end

-- Parcels that have arrived: epoch, then serials. A stale owner removes nothing.
local function arrived(keys, args)
  local p = keys[1]
  local refused = barred(p, open_book(p), args[1])
  if refused then return refused end
  local numbers, newest = {}, slab(num(redis.call('HGET', p .. ':sent', 'serial')))
  for i = 2, #args do numbers[i - 1] = tonumber(args[i]) end
  for b, of in pairs(by_slab(numbers)) do
    local key = p .. ':out:' .. str(b)
    redis.call('HDEL', key, unpack(of))
    if b ~= newest and redis.call('EXISTS', key) == 0 then redis.call('ZREM', p .. ':outs', str(b)) end
  end
  return #numbers
end
