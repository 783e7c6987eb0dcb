-- Begins a keyed write, or returns the state of the write that has begun with this key.
-- KEYS 1 state, see state.lua
--      2 record: `v` version `f` fingerprint `o` owner `s` pending|completed|unknown `u` end of its lease
--        `st` status `h` headers (JSON) `b` body, absent if it is not stored `n` bytes of the body
-- ARGV 1 to 3 see state.lua   4 version   5 fingerprint   6 owner   7 lease in ms   8 time to live in ms
--      9 `again`: it was begun on a server that may have lost it
-- Reply kind, id of the state, owner; then for `replay` status, headers, bytes, body; for `closed` the ms to wait
local now = wall()
local id, closedMs = stateAt(now)
local function reply(kind, ...) return { kind, id, ARGV[6], ... } end

local kind = redis.call('TYPE', KEYS[2]).ok
if kind == 'none' then
  -- A caller whose recent writes are not here may have begun this one before.
  local mayBegin = closedMs == 0 and (ARGV[1] == '' or ARGV[1] == id)
  if not mayBegin and ARGV[9] ~= 'again' then return reply('closed', closedMs) end
  redis.call('HSET', KEYS[2], 'v', ARGV[4], 'f', ARGV[5], 'o', ARGV[6], 's', 'pending', 'u', now + tonumber(ARGV[7]))
  redis.call('PEXPIRE', KEYS[2], math.max(tonumber(ARGV[7]), tonumber(ARGV[8])))
  return reply('first')
end
if kind ~= 'hash' then return reply('broken') end
local f = redis.call('HMGET', KEYS[2], 'v', 'f', 's', 'u', 'st', 'h', 'b', 'n', 'o')
if f[1] ~= ARGV[4] or not f[2] then return reply('broken') end
if f[2] ~= ARGV[5] then return reply('mismatch') end
if f[3] == 'pending' then
  -- The owner asks again, because the first reply did not arrive in time.
  if f[9] == ARGV[6] then return reply('first') end
  -- After the lease the owner has stopped, and may have sent the write.
  return reply((tonumber(f[4]) or 0) > now and 'conflict' or 'unknown')
end
if f[3] == 'unknown' then return reply('unknown') end
if f[3] ~= 'completed' then return reply('broken') end
return reply('replay', f[5] or '', f[6] or '', f[8] or '', f[7])
