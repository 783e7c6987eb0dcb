-- Records the outcome of a write, for its owner only. A record that Redis has lost is written again: no other request has its key,
-- and a repeat finds the same outcome. The body is left out where there is no room for it.
-- KEYS 1 record, see begin.lua   2 bytes of bodies of the tenant, by the hour in which they expire
-- ARGV 1 owner   2 time to live in ms   3 released|unknown|completed   4 version   5 fingerprint   6 bytes for bodies of a tenant
--      7 status   8 headers   9 bytes of the body   10 body, left out if it is too large
local HOUR = 3600000
-- As for cached responses: above this part of `maxmemory` the rest is for the quota and for records.
local MAX_USED = 0.8

local function hasRoom(bytes)
  if bytes == 0 then return true end
  local memory = redis.call('INFO', 'memory')
  local max = tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
  if max > 0 and tonumber(string.match(memory, '\nused_memory:(%d+)')) + bytes > max * MAX_USED then return false end
  local time = redis.call('TIME')
  local now, sum, fields = tonumber(time[1]) * 1000, bytes, redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    local hour = tonumber(fields[i])
    if hour < math.floor(now / HOUR) then redis.call('HDEL', KEYS[2], fields[i])
    else sum = sum + tonumber(fields[i + 1]) end
  end
  if sum > tonumber(ARGV[6]) then return false end
  redis.call('HINCRBY', KEYS[2], math.floor((now + tonumber(ARGV[2])) / HOUR), bytes)
  redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[2]) + HOUR)
  return true
end

local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[3] == 'released' then return redis.call('DEL', KEYS[1]) end
-- A full Redis refuses the first command that takes memory, not the next ones: the outcome of a write is recorded even there.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'f', ARGV[5], 'o', ARGV[1], 's', ARGV[3])
if ARGV[3] == 'completed' then
  redis.call('HSET', KEYS[1], 'st', ARGV[7], 'h', ARGV[8], 'n', ARGV[9])
  if ARGV[10] and redis.call('HEXISTS', KEYS[1], 'b') == 0 and hasRoom(#ARGV[10]) then
    redis.call('HSET', KEYS[1], 'b', ARGV[10])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
