-- A replica says that it is there, corrects what it has in flight, and learns how the account stands.
-- ARGV  5 its slots in flight, endings not taken in yet included   6 latest time at which it knows it was heard   7 share it
--       believes in   8 local | closed | leaving   9 ceiling 10 account burst   11 how long a request can be under way
--       12 reserve   13 guarantees `id=slots …`   14 leaving: how long what it cut off can still arrive
--       15 adopt (0/1): the clock leapt
-- Returns how the account stands (see `standing`) | {-1} | {-2} too late, or the clock leapt
local id = ARGV[2]
local f = redis.call('HMGET', STATE, 'k:' .. id, 't', 'off', 'fl', 'st', 'n', 'hd', 'i:' .. id, 'M', 'ou', 'bs', 'ba', 'br',
  'ro', 'at', 'lb')
if f[1] ~= ARGV[3] then return { -1 } end
local now, off = clock(tonumber(f[2]), tonumber(f[3]), tonumber(ARGV[4]), ARGV[15] == '1')
if not now then return { -2 } end
local hd, st = expire(now, tonumber(f[7]), tonumber(f[5]))
local fl, n = tonumber(f[4]), tonumber(f[6])
local ceiling, burst, reserveMs = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[12])
local members = cjson.decode(f[9])
local orphans = num(f[10], 0)

local own = tonumber(ARGV[5])
fl = fl + own - num(f[8], 0)
redis.call('HSET', STATE, 'i:' .. id, own)

local m = members[id]
local present = attended(num(f[15], 0), num(f[16], now), now)
m.c, m.a, m.flight, m.s, m.gone = max(m.c, tonumber(ARGV[6])), tonumber(ARGV[7]), tonumber(ARGV[11]), present, nil
if ARGV[8] == 'leaving' then
  if own > 0 then
    hold(stepAfterWindow(now + tonumber(ARGV[14])), own)
    fl, st, n = fl - own, st + own, n + own
  end
  members[id] = nil
  redis.call('HDEL', STATE, 'k:' .. id, 'i:' .. id, 'q:' .. id)
  orphans = max(orphans, now + WINDOW + tonumber(ARGV[14]) + STEP)
end

local buried, until_ = bury(members, now, present, reserveMs)
fl, st, n, orphans = fl - buried, st + buried, n + buried, max(orphans, until_)

local share, replicas = shareOf(members, id, ceiling)
if members[id] then m.mode, m.p = ARGV[8] == 'leaving' and m.mode or ARGV[8], share end

local bs = spentOf(tonumber(f[11]), tonumber(f[12]), tonumber(f[13]), burst, now)
local reserved, again = roster(members, now)
local others, _, othersSilent = roster(members, now, id)
redis.call('HSET', STATE, 't', now, 'off', off, 'hd', hd, 'st', st, 'fl', fl, 'n', n, 'M', encoded(members), 'rs', reserved,
  'rn', again, 'ou', orphans, 'gl', ARGV[13], 'at', present, 'lb', now)
if tonumber(f[13]) ~= ceiling then redis.call('HSET', STATE, 'bs', bs, 'ba', now, 'br', ceiling) end
redis.call('PEXPIRE', STATE, 900000)

return standing({ now = now, hd = hd, st = st, fl = fl, share = share, replicas = replicas, bs = bs, burst = burst, ou = orphans,
  ro = num(f[14], 0), reserved = others, silent = othersSilent, members = members, flight = tonumber(ARGV[11]) })
