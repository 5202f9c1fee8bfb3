"""The Lua scripts that run in the store. All times are the store's own, so that clocks of front ends need not agree."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

BEAT = f"""{_NOW}
-- KEYS: when front ends expire, what they said last, the mail of this one, then one sorted set for each table
-- ARGV: id, milliseconds until it expires, what it says
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
end
local mail = redis.call('LRANGE', KEYS[3], 0, -1)
redis.call('DEL', KEYS[3])
local newest = {{}}
for place = 4, #KEYS do
    newest[place - 3] = redis.call('ZREVRANGE', KEYS[place], 0, 0, 'WITHSCORES')[2] or '0'
end
return {{redis.call('HGETALL', KEYS[2]), mail, newest}}
"""
"""Say that a front end lives; return what all living ones said last, its mail, and the newest revision of each table."""

LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
"""
"""Forget a front end at its end, so that nobody waits until it expires."""

POST = """
-- KEYS: the mail of a front end; ARGV: the message, the most messages, milliseconds until all are dropped
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
"""Leave a message for a front end, which reads it with its next beat."""

CHANGE = f"""{_NOW}
-- KEYS: revisions (sorted set), documents (hash), maybe texts that the document refers to (hash)
-- ARGV: name, expected revision, document, most names; how many texts are kept, their hashes, then hash and text of new ones
local revision = redis.call('ZSCORE', KEYS[1], ARGV[1])
if tonumber(revision or '0') ~= tonumber(ARGV[2]) then return '0' end
if not revision and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return '-1' end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '0'
-- The time makes what was agreed after a loss of the store newer than all that was agreed before.
local next = string.format('%.0f', math.max(now, tonumber(newest) + 1))
redis.call('ZADD', KEYS[1], next, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
if KEYS[3] then
    local new = 6 + tonumber(ARGV[5])
    local kept = {{}}
    for place = 6, new - 1 do kept[ARGV[place]] = true end
    for _, hash in ipairs(redis.call('HKEYS', KEYS[3])) do
        if not kept[hash] then redis.call('HDEL', KEYS[3], hash) end
    end
    for place = new, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 1]) end
end
return next
"""
"""Change a document if its revision is the expected one; return the new revision, 0 if it is not, -1 if there are too many names."""

OFFER = """
-- KEYS as in CHANGE; ARGV: name, revision, document, and so on
for place = 1, #ARGV, 3 do
    local revision = redis.call('ZSCORE', KEYS[1], ARGV[place])
    if tonumber(revision or '0') < tonumber(ARGV[place + 1]) then
        redis.call('ZADD', KEYS[1], ARGV[place + 1], ARGV[place])
        redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 2])
    end
end
"""
"""Write documents where the store has none, or an older one: this is how front ends restore what the store has lost."""

READ = """
-- KEYS as in CHANGE; ARGV: revision, most names, most bytes of a document
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local read = {}
for place = 1, #found, 2 do
    local document = redis.call('HGET', KEYS[2], found[place])
    if not document or #document > tonumber(ARGV[3]) then document = '' end
    read[#read + 1] = {found[place], found[place + 1], document}
end
return read
"""
"""Return name, revision and document of what is newer than a revision; the document is empty where it is too large."""

MISSING = """
-- KEYS: texts (hash); ARGV: hashes
local missing = {}
for _, hash in ipairs(ARGV) do
    if redis.call('HEXISTS', KEYS[1], hash) == 0 then missing[#missing + 1] = hash end
end
return missing
"""
"""Return the hashes whose texts the store does not have."""

KEEP = "redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])"
"""Write back a text by its hash."""

FETCH = """
-- KEYS: texts (hash); ARGV: hash, most bytes of a text
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text or #text > tonumber(ARGV[2]) then return '' end
return text
"""
"""Return a text by its hash, an empty one where it is missing or too large."""
