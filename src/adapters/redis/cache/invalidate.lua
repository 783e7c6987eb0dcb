-- Appends an invalidation to the log, and publishes it.
-- ARGV  5 the invalidation   6 channel   7 account
-- Returns {name, latest, from, entries after `from`, other readers, each with the ms for which it may still serve from memory}
local name, latest = open()
local from, entries = after(name, latest)
latest = latest + 1
redis.call('HSET', LOG, 'latest', latest, 'entry:' .. latest, ARGV[5])
redis.call('HDEL', LOG, 'entry:' .. (latest - MAX_ENTRIES))
entries[#entries + 1] = ARGV[5]
redis.call('PUBLISH', ARGV[6], cjson.encode({
  kind = 'invalidation', account = ARGV[7], log = name, at = latest, invalidation = ARGV[5], by = ARGV[1],
}))
local now = wall()
redis.call('ZREMRANGEBYSCORE', READERS, '-inf', now)
local readers = redis.call('ZRANGE', READERS, 0, -1, 'WITHSCORES')
local others = {}
for i = 1, #readers, 2 do
  if readers[i] ~= ARGV[1] then
    others[#others + 1] = readers[i]
    others[#others + 1] = tonumber(readers[i + 1]) - now
  end
end
return { name, latest, from, entries, others }
