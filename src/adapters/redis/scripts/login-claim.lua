-- The token that there is, or whose turn it is to get one.
-- ARGV 1 attempt   2 how long it is known without another word; 0: nothing is claimed   3 id of a token that is not wanted
--      4 1: upstream refused it   5 mark of the password
if id and id == ARGV[3] and ARGV[4] == '1' then
  redis.call('HDEL', KEYS[1], 'i', 't', 'a', 'e')
  redis.call('HSET', KEYS[1], 'c', refusals + 1)
  id = nil
end
if living() and id ~= ARGV[3] then return token() end
-- What failed with another password may succeed with this one.
if rest > now and mark == ARGV[5] then return { 'resting', why or '', rest - now, failures } end
if owner and owner ~= ARGV[1] and under_way > now then return { 'theirs' } end
local lease = tonumber(ARGV[2])
if lease == 0 then return { 'none' } end
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'u', now + lease)
keep(now + lease)
return { 'ours', now }
