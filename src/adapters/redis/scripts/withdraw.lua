-- Nobody of the tenant waits any more. ARGV 5 tenant
redis.call('ZREM', LINE, ARGV[5])
redis.call('ZREM', DUE, ARGV[5])
return 1
