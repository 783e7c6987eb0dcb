-- Notes a drop and tells all who listen.
-- ARGV  5 the drop   6 channel   7 account
-- Returns {base, latest, from, drops after `from`, other readers and for how long each may still serve from memory}
local base, v = open()
local from, drops = after(base, v)
v = v + 1
redis.call('HSET', LOG, 'v', v, 'd:' .. v, ARGV[5])
redis.call('HDEL', LOG, 'd:' .. (v - KEPT))
drops[#drops + 1] = ARGV[5]
redis.call('PUBLISH', ARGV[6], cjson.encode({ kind = 'drop', account = ARGV[7], base = base, at = v, drop = ARGV[5], by = ARGV[1] }))
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
return { base, v, from, drops, others }
