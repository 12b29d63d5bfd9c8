-- What all of it is called from outside. What frees memory, or keeps a promise already made, must go on
-- when memory is out; only accepting may be refused.

local function writes(name, callback)
  redis.register_function({ function_name = 'greenroom_1_' .. name, callback = callback, flags = { 'allow-oom' } })
end

local function looks(name, callback)
  redis.register_function({ function_name = 'greenroom_1_' .. name, callback = callback, flags = { 'no-writes' } })
end

redis.register_function('greenroom_1_append', append)
writes('receive', receive)
writes('commit', commit)
writes('redo', redo)
writes('begin', begin)
writes('cancel', cancel)
writes('redrive', redrive)
writes('discard', discard)
writes('expire', expire)
writes('acquire', acquire)
writes('release', release)
writes('join', join)
writes('beat', beat)
writes('give_up', give_up)
writes('leave', leave)
looks('open', open)
looks('lookup', lookup)
looks('due', due)
looks('parked', parked)
looks('blocked', blocked)
looks('dead', dead)
looks('books', books)
