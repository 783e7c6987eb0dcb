-- Notes how a claim ended; only for whoever holds it. A record that Redis has lost meanwhile is written anew: nobody else has
-- the key, and a repeat finds what it would have found.
-- KEYS 1 record, see replay-begin.lua
-- ARGV 1 owner   2 how long it is kept in ms   3 released|lost|answered   4 version   5 fingerprint   6 status   7 headers
--      8 bytes of the body   9 body, left out if it is too large
local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[3] == 'released' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'f', ARGV[5], 'o', ARGV[1], 's', ARGV[3])
if ARGV[3] == 'answered' then
  redis.call('HSET', KEYS[1], 'st', ARGV[6], 'h', ARGV[7], 'n', ARGV[8])
  if ARGV[9] then redis.call('HSET', KEYS[1], 'b', ARGV[9]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
