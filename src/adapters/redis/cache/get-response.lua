-- KEYS 1 an answer. Returns it, and how long it is kept yet: its age by the one clock that all replicas share.
return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
