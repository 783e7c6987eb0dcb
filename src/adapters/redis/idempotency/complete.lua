-- Records the outcome of a write, for its owner only. A record that Redis has lost is written again: no other request has its key,
-- and a repeat finds the same outcome.
-- KEYS 1 record, see begin.lua
-- ARGV 1 owner   2 time to live in ms   3 released|unknown|completed   4 version   5 fingerprint   6 status   7 headers
--      8 bytes of the body   9 body, left out if it is too large
local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[3] == 'released' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'f', ARGV[5], 'o', ARGV[1], 's', ARGV[3])
if ARGV[3] == 'completed' then
  redis.call('HSET', KEYS[1], 'st', ARGV[6], 'h', ARGV[7], 'n', ARGV[8])
  if ARGV[9] then redis.call('HSET', KEYS[1], 'b', ARGV[9]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
