-- Removes the names whose value, a minute with or without a sign, is before ARGV[1].
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if math.abs(tonumber(all[i + 1]) or 0) < tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], all[i]) end
end
