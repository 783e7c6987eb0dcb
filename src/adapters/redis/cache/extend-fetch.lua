-- KEYS 1 a flight   ARGV 1 whose it is   2 how long it is known without another word
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
