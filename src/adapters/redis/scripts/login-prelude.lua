-- KEYS 1 a login as all replicas know it:
--   `i` id of its token `t` the token, sealed `a` when its login began `e` when it expires `c` tokens refused in a row before it
--   `o` the latest attempt `u` until when it is believed to be under way; 0: it has ended
--   `r` end of the rest after failures `w` why `n` failures in a row `m` mark of the password that failed
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local fields = redis.call('HMGET', KEYS[1], 'i', 't', 'a', 'e', 'c', 'o', 'u', 'r', 'w', 'n', 'm')
local id, sealed, owner, why, mark = fields[1], fields[2], fields[6], fields[9], fields[11]
local begun, expires = tonumber(fields[3]) or 0, tonumber(fields[4]) or 0
local refusals, under_way = tonumber(fields[5]) or 0, tonumber(fields[7]) or 0
local rest, failures = tonumber(fields[8]) or 0, tonumber(fields[10]) or 0

local function living() return id and sealed and expires > now end

-- As all scripts reply it. Half a life may have passed: whoever takes it must know when to renew it.
local function token() return { 'token', id, sealed, expires - now, expires - begun, refusals } end

-- Kept as long as anything of it counts, and then for as long as failures in a row are remembered.
local function keep(last)
  local length = math.max(last, expires, rest) - now + 600000
  if redis.call('PTTL', KEYS[1]) < length then redis.call('PEXPIRE', KEYS[1], length) end
end
