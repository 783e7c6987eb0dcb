-- Returns new entries of the log, and extends the time for which the replica may serve from memory.
-- ARGV  5 for how long, in ms; 0: it leaves
-- Returns {name, latest, from, entries after `from`}
local name, latest = open()
if tonumber(ARGV[5]) > 0 then
  redis.call('ZADD', READERS, wall() + tonumber(ARGV[5]), ARGV[1])
  redis.call('PEXPIRE', READERS, READERS_TTL)
else
  redis.call('ZREM', READERS, ARGV[1])
end
local from, entries = after(name, latest)
return { name, latest, from, entries }
