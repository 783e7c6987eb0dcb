-- A new token. Of two the one whose login began later is everybody's: an attempt that was taken for dead, or a replica that was cut
-- off, must not bring back an older one. Whoever was the latest to claim it needs no comparison.
-- ARGV 1 attempt, empty if nothing was claimed   2 when its login began, or how many ms ago if nothing was claimed   3 id   4 token, sealed
--      5 its life in ms   6 channel   7 what to tell the others
local latest = ARGV[1] ~= '' and owner == ARGV[1]
local at = ARGV[1] ~= '' and tonumber(ARGV[2]) or now - tonumber(ARGV[2])
if living() and id == ARGV[3] then
  -- Perhaps with another key.
  redis.call('HSET', KEYS[1], 't', ARGV[4])
  return { 'stored' }
end
if living() and not latest and begun >= at then return token() end
begun, expires, rest = at, at + tonumber(ARGV[5]), 0
redis.call('HSET', KEYS[1], 'i', ARGV[3], 't', ARGV[4], 'a', begun, 'e', expires)
redis.call('HDEL', KEYS[1], 'r', 'w', 'n', 'm')
if latest then redis.call('HSET', KEYS[1], 'u', 0) end
keep(now)
redis.call('PUBLISH', ARGV[6], ARGV[7])
return { 'stored' }
