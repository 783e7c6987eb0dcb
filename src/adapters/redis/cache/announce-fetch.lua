-- KEYS 1 a flight   2 where its answer will lie   ARGV 1 whose it is   2 how long it is known without another word
-- Returns 0: it is theirs; 1: it is ours; 2: it is ours, and an answer lies there
if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
return 1 + redis.call('EXISTS', KEYS[2])
