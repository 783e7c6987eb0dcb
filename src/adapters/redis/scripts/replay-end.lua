-- Notes how a claim ended; only for whoever holds it.
-- KEYS 1 record   ARGV 1 owner   2 how long it is kept in ms   3 released|lost|answered   4 status 5 headers 6 bytes of the body
--      7 body, left out if it is too large
if redis.call('HGET', KEYS[1], 'o') ~= ARGV[1] then return 0 end
if ARGV[3] == 'released' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 's', ARGV[3])
if ARGV[3] == 'answered' then
  redis.call('HSET', KEYS[1], 'st', ARGV[4], 'h', ARGV[5], 'n', ARGV[6])
  if ARGV[7] then redis.call('HSET', KEYS[1], 'b', ARGV[7]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
