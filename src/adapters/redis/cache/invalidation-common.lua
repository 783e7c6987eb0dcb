-- The invalidation log of one account: src/adapters/redis/cache/invalidation-log.ts has the protocol.
--
-- KEYS  1 log: `name`, number of the `latest` entry, `entry:<number>`   2 readers: replicas by the time until which they may
--       serve from memory
-- ARGV  1 replica   2 the log it knows, empty for none   3 the latest entry it knows   4 name for a new log
local LOG, READERS = KEYS[1], KEYS[2]
local MAX_ENTRIES, LOG_TTL, READERS_TTL = 1000, 86400000, 60000

local function wall()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The log as it is; a new one if there is none, or if this one has lost entries that the replica knows.
local function open()
  local found = redis.call('HMGET', LOG, 'name', 'latest')
  local name, latest = found[1], tonumber(found[2])
  if not name or (name == ARGV[2] and tonumber(ARGV[3]) > latest) then
    redis.call('DEL', LOG)
    name, latest = ARGV[4], 0
    redis.call('HSET', LOG, 'name', name, 'latest', latest)
  end
  redis.call('PEXPIRE', LOG, LOG_TTL)
  return name, latest
end

-- The entries after the one that the replica knows; all of them if it does not know this log.
local function after(name, latest)
  local from = tonumber(ARGV[3])
  if name ~= ARGV[2] or from < latest - MAX_ENTRIES then from = math.max(0, latest - MAX_ENTRIES) end
  local entries = {}
  for i = from + 1, latest do entries[#entries + 1] = redis.call('HGET', LOG, 'entry:' .. i) or '' end
  return from, entries
end
