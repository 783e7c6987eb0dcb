-- ARGV 1 attempt   2 why   3 mark of the password   4 least rest in ms   5 failures in a row before, as the replica knows them
--      6 1: it counts as a failure   7 first rest   8 longest rest   9 channel   10 what to tell the others
if owner ~= ARGV[1] then return false end
if mark ~= ARGV[3] then rest, failures = 0, 0 end
failures = math.max(failures, tonumber(ARGV[5]))
local length = tonumber(ARGV[4])
if ARGV[6] == '1' then
  length = math.max(length, math.min(tonumber(ARGV[7]) * 2 ^ math.min(failures, 30), tonumber(ARGV[8])))
  failures = failures + 1
end
-- Never shorter than it was.
rest = math.max(rest, now + length)
redis.call('HSET', KEYS[1], 'r', rest, 'w', ARGV[2], 'n', failures, 'm', ARGV[3], 'u', 0)
keep(now)
redis.call('PUBLISH', ARGV[9], ARGV[10])
return { rest - now, failures }
