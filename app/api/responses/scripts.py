"""The Lua scripts that keep responses in the store of several front ends: what `sqlite_store` does in SQL.

All keys begin with KEYS[1]. `row:OWNER:ID` is a response; `own:OWNER` are the ids of an owner by age, `ages` those of all; `counts` and
`sizes` are the responses and bytes of each owner, `bytes` those of all; `items:OWNER` tells which response has an item. An owner's name has
no colon.
"""

_DROP = """
local base = KEYS[1]
local function drop(owner, id)
    local row = base .. ':row:' .. owner .. ':' .. id
    local size = tonumber(redis.call('HGET', row, 'size'))
    redis.call('ZREM', base .. ':ages', owner .. ':' .. id)
    redis.call('ZREM', base .. ':own:' .. owner, id)
    if not size then return 0 end
    local of_row, items = base .. ':row-items:' .. owner .. ':' .. id, base .. ':items:' .. owner
    for _, item in ipairs(redis.call('SMEMBERS', of_row)) do
        if redis.call('HGET', items, item) == id then redis.call('HDEL', items, item) end
    end
    redis.call('DEL', row, of_row)
    redis.call('DECRBY', base .. ':bytes', size)
    if tonumber(redis.call('ZINCRBY', base .. ':counts', -1, owner)) <= 0 then
        redis.call('ZREM', base .. ':counts', owner)
        redis.call('ZREM', base .. ':sizes', owner)
    else
        redis.call('ZINCRBY', base .. ':sizes', -size, owner)
    end
    return 1
end
"""

SAVE = (
    _DROP
    + """
-- ARGV: owner, id, when it was made, front end that runs it, response, items, events, most responses, most bytes, most seconds, item ids
local owner, id = ARGV[1], ARGV[2]
drop(owner, id)
local row, size = base .. ':row:' .. owner .. ':' .. id, #ARGV[5] + #ARGV[6] + #ARGV[7]
redis.call('HSET', row, 'created', ARGV[3], 'front_end', ARGV[4], 'response', ARGV[5], 'items', ARGV[6], 'events', ARGV[7], 'size', size)
redis.call('ZADD', base .. ':ages', ARGV[3], owner .. ':' .. id)
redis.call('ZADD', base .. ':own:' .. owner, ARGV[3], id)
redis.call('INCRBY', base .. ':bytes', size)
redis.call('ZINCRBY', base .. ':counts', 1, owner)
redis.call('ZINCRBY', base .. ':sizes', size, owner)
for place = 11, #ARGV do
    redis.call('HSET', base .. ':items:' .. owner, ARGV[place], id)
    redis.call('SADD', base .. ':row-items:' .. owner .. ':' .. id, ARGV[place])
end
local old = redis.call('TIME')[1] - ARGV[10]
for _, name in ipairs(redis.call('ZRANGEBYSCORE', base .. ':ages', '-inf', '(' .. string.format('%.0f', old), 'LIMIT', 0, 1000)) do
    drop(string.match(name, '^([^:]*):(.*)$'))
end
while true do
    local share
    if redis.call('ZCARD', base .. ':ages') > tonumber(ARGV[8]) then share = ':counts'
    elseif tonumber(redis.call('GET', base .. ':bytes')) > tonumber(ARGV[9]) then share = ':sizes'
    else break end
    local largest = redis.call('ZREVRANGE', base .. share, 0, 0)[1]
    local oldest = largest and redis.call('ZRANGE', base .. ':own:' .. largest, 0, 0)[1]
    if not oldest then break end
    drop(largest, oldest)
end
"""
)
"""Keep a response, and drop what is too old or too much."""

DELETE = _DROP + "return drop(ARGV[1], ARGV[2])"
"""Delete a response; return how many there were."""

FIND = """
-- ARGV: owner, id, most seconds, most bytes
local row = KEYS[1] .. ':row:' .. ARGV[1] .. ':' .. ARGV[2]
local found = redis.call('HMGET', row, 'created', 'size', 'front_end', 'response', 'items', 'events')
if not found[1] or tonumber(found[1]) < redis.call('TIME')[1] - ARGV[3] then return {} end
if not found[6] or #found[4] + #found[5] + #found[6] > tonumber(ARGV[4]) then return {} end
return {found[3], found[4], found[5], found[6]}
"""
"""Return the front end that runs a response, the response, its items and its events; nothing where it is not there."""

HOLDERS = """
-- ARGV: owner, ids of items
local found = {}
for place = 2, #ARGV do
    local id = redis.call('HGET', KEYS[1] .. ':items:' .. ARGV[1], ARGV[place])
    if id then found[#found + 1] = id end
end
return found
"""
"""Return the ids of the responses that have these items."""
