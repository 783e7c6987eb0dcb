-- Tells what was dropped, and that this replica is heard for a while.
-- ARGV  5 how long it may serve from memory, in ms; 0: it leaves
-- Returns {base, latest, from, drops after `from`}
local base, v = open()
if tonumber(ARGV[5]) > 0 then
  redis.call('ZADD', READERS, wall() + tonumber(ARGV[5]), ARGV[1])
  redis.call('PEXPIRE', READERS, SEEN)
else
  redis.call('ZREM', READERS, ARGV[1])
end
local from, drops = after(base, v)
return { base, v, from, drops }
