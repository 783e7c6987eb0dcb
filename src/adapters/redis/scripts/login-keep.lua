-- ARGV 1 attempt   2 how long it is known without another word
if owner == ARGV[1] and under_way > 0 then
  redis.call('HSET', KEYS[1], 'u', now + tonumber(ARGV[2]))
  keep(now + tonumber(ARGV[2]))
end
return 0
