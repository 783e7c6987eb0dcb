-- Begins a keyed write, or returns the state of the write that has begun with this key.
-- KEYS 1 record: `v` version `f` fingerprint `o` owner `s` pending|completed|unknown `u` end of its lease
--        `st` status `h` headers (JSON) `b` body, absent if it was too large `n` bytes of the body
-- ARGV 1 version   2 fingerprint   3 owner   4 lease in ms   5 time to live in ms
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  redis.call('HSET', KEYS[1], 'v', ARGV[1], 'f', ARGV[2], 'o', ARGV[3], 's', 'pending', 'u', now + tonumber(ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[4]), tonumber(ARGV[5])))
  return { 'first' }
end
if kind ~= 'hash' then return { 'broken' } end
local f = redis.call('HMGET', KEYS[1], 'v', 'f', 's', 'u', 'st', 'h', 'b', 'n', 'o')
if f[1] ~= ARGV[1] or not f[2] then return { 'broken' } end
if f[2] ~= ARGV[2] then return { 'mismatch' } end
if f[3] == 'pending' then
  -- The owner asks again, because the first reply did not arrive in time.
  if f[9] == ARGV[3] then return { 'first' } end
  -- After the lease the owner has stopped, and may have sent the write.
  return { (tonumber(f[4]) or 0) > now and 'conflict' or 'unknown' }
end
if f[3] == 'unknown' then return { 'unknown' } end
if f[3] ~= 'completed' then return { 'broken' } end
return { 'replay', f[5] or '', f[6] or '', f[8] or '', f[7] }
