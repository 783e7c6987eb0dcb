-- KEYS 1 a flight   ARGV 1 whose it is   2 channel   3 what to tell those who wait
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('PUBLISH', ARGV[2], ARGV[3])
