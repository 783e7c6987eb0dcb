-- What the scripts of the cache's drops share: invalidation-log.ts tells the protocol.
--
-- KEYS  1 drops: `base` names this log, `v` its latest drop, `d:<v>` each of them   2 readers: replicas that may serve from
--       memory, by the time until which they may
-- ARGV  1 replica   2 the base it knows, empty for none   3 the latest drop it knows   4 a base, should a new one be needed
local LOG, READERS = KEYS[1], KEYS[2]
local KEPT, LASTS, SEEN = 1000, 86400000, 60000

local function wall()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The log as it is; a new one if there is none, or if this one has forgotten what the replica knows of it.
local function open()
  local f = redis.call('HMGET', LOG, 'base', 'v')
  local base, v = f[1], tonumber(f[2])
  if not base or (base == ARGV[2] and tonumber(ARGV[3]) > v) then
    redis.call('DEL', LOG)
    base, v = ARGV[4], 0
    redis.call('HSET', LOG, 'base', base, 'v', v)
  end
  redis.call('PEXPIRE', LOG, LASTS)
  return base, v
end

-- The drops after the one the replica knows; all that are kept for one that knows none of this log.
local function after(base, v)
  local from = tonumber(ARGV[3])
  if base ~= ARGV[2] or from < v - KEPT then from = math.max(0, v - KEPT) end
  local drops = {}
  for i = from + 1, v do drops[#drops + 1] = redis.call('HGET', LOG, 'd:' .. i) or '' end
  return from, drops
end
