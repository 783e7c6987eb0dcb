-- KEYS 1 an in-flight fetch   ARGV 1 its token   2 channel   3 message to those who wait
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('PUBLISH', ARGV[2], ARGV[3])
