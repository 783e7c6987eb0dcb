-- The token works: those after it are not refused in a row.
redis.call('HDEL', KEYS[1], 'c')
return 0
