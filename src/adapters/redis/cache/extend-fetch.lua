-- KEYS 1 an in-flight fetch   ARGV 1 its token   2 how long it is known without another extension
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
