-- In front of the scripts that begin writes. A server that takes over may lack the latest records, and an emptied one lacks all:
-- replicas know their own, and enter them again. Until they have had the time to, no other write is begun.
-- KEYS 1 state: `server` that it was made on; its `id`; `openAt`; `before` id of the state that it replaced; `from` the one that
--        its first caller came from
-- ARGV 1 id of the state that has the recent writes of the caller, empty if it has none   2 id for a new state
--      3 ms for replicas to enter their writes
local KEPT_MS = 30 * 86400000

local function wall()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The id, and the ms until writes are begun.
local function stateAt(now)
  local known, othersComeMs = ARGV[1], tonumber(ARGV[3])
  -- A server that becomes a master again, perhaps with what it had before, has another id of its replication.
  local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
    .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  local s = redis.call('HMGET', KEYS[1], 'server', 'id', 'openAt', 'before', 'from')
  local id, openAt = s[2], tonumber(s[3])
  -- From a server that this one knows nothing of: both were masters, side by side.
  local fromElsewhere = known ~= '' and known ~= id and known ~= s[4] and known ~= s[5]
  if s[1] ~= server or fromElsewhere then
    redis.call('HSET', KEYS[1], 'server', server, 'before', id or '', 'from', known)
    id, openAt = ARGV[2], nil
  end
  -- Also if the clock was set back: it must not stay closed until it is that late again.
  if not openAt or openAt > now + othersComeMs then
    openAt = now + othersComeMs
    redis.call('HSET', KEYS[1], 'id', id, 'openAt', openAt)
    redis.call('PEXPIRE', KEYS[1], KEPT_MS)
  end
  return id, math.max(0, openAt - now)
end
