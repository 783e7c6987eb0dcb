-- ARGV: a name and its value in turn. The greatest value of each name is kept.
local kept = {}
for i = 1, #ARGV, 2 do
  local value = tonumber(ARGV[i + 1])
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
  if known == nil or known < value then
    redis.call('HSET', KEYS[1], ARGV[i], value)
    known = value
  end
  kept[#kept + 1] = known
end
return kept
