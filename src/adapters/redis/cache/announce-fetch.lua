-- KEYS 1 an in-flight fetch   2 where its response will be stored   ARGV 1 its token   2 how long it is known without an extension
-- Returns 0: another replica fetches; 1: this one does; 2: this one does, and a response is stored
if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
return 1 + redis.call('EXISTS', KEYS[2])
