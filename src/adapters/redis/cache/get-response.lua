-- KEYS 1 a stored response   Returns it, and how long it is still kept: its age by the one clock that all replicas share.
return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
