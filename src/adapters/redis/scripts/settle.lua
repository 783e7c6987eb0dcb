-- How requests ended, in the order of one replica: each ending has a number, and is taken in once however often it is
-- sent.
-- ARGV  5 number of the first   6 endings, a JSON list of [kind, …]:
--         ["s", admitted at, answered before, used or -1, remaining, hold: -1 none, -2 untold, or ms]
--         ["x"] no answer, and it can not arrive any more   ["r", tenant, burst] it never left
--       7 ceiling   8 account burst
-- Returns {1, now, last number} | {-1} | {-2} too late, or the clock leapt
local id = ARGV[2]
local f = redis.call('HMGET', STATE, 'k:' .. id, 't', 'off', 'fl', 'st', 'n', 'hd', 'i:' .. id, 'q:' .. id, 'bs', 'ba', 'br',
  'fo', 'fr', 'fu', 'fxu', 'fxa', 'fxn', 'fxw', 'fxo', 'fxb', 'hu', 'hs', 'hn', 'ob')
if f[1] ~= ARGV[3] then return { -1 } end
local now, off = clock(tonumber(f[2]), tonumber(f[3]), tonumber(ARGV[4]))
if not now then return { -2 } end
local hd, st = expire(now, tonumber(f[7]), tonumber(f[5]))
local fl, n, mine, seq = tonumber(f[4]), tonumber(f[6]), num(f[8], 0), num(f[9], 0)
local ceiling, burst = tonumber(ARGV[7]), tonumber(ARGV[8])
local bs, ba, br = tonumber(f[10]), tonumber(f[11]), tonumber(f[12])
local fo, fr, fu = num(f[13], 0), num(f[14], FAR), num(f[15], -1)
-- The greatest use seen in the present upstream window: how much, admitted when, answered before, answered when.
local xu, xa, xn, xw = num(f[16], 0), num(f[17], -FAR), num(f[18], 0), num(f[19], FAR)
-- The present upstream window opened after this many answers, and before this time.
local xo, xb = num(f[20], 0), num(f[21], -FAR)
local hu, hs, hn, ob = num(f[22], 0), num(f[23], -1), num(f[24], 10000), f[25] == '1'
local toHold = 0

-- See src/quota/foreign.ts.
local function observe(admittedAt, before, used, remaining)
  if admittedAt > xw and used <= xu then
    xo, xb, xu = xn, now, 0
    fo, fr, fu = 0, FAR, -1
  end
  if used >= xu or now - xa > WINDOW then xu, xa, xn, xw = used, admittedAt, before, now end
  if now >= fu then fo, fr, fu = 0, FAR, -1 end
  local own = fl + st
  if admittedAt >= xb then own = min(fl + n - xo, own) end
  local foreign = max(0, used - own)
  if foreign == 0 and fo == 0 then return end
  fr = min(fr, remaining)
  if foreign >= fo then fo, fu = foreign, now + WINDOW end
end

local endings = cjson.decode(ARGV[6])
for i = 1, #endings do
  local ending = endings[i]
  local number = tonumber(ARGV[5]) + i - 1
  if number > seq then
    seq = number
    fl, mine = fl - 1, mine - 1
    if ending[1] == 'r' then
      bs, ba = max(0, spentOf(bs, ba, br, burst, now) - TOKEN), now
      local who = ending[2]
      if who ~= '' then
        local bucket = redis.call('HGET', STATE, 'b:' .. who)
        if bucket then
          local before, at, rate, tag = unpacked(bucket)
          local spent = spentOf(before, at, rate, ending[3], now)
          redis.call('HSET', STATE, 'b:' .. who, packed(max(0, spent - TOKEN), now, rate, tag))
        end
      end
    else
      if ending[1] == 's' then
        local admittedAt, used, told = ending[2], ending[4], ending[6]
        if used >= 0 then
          -- The request's own slot is still in flight here.
          fl = fl + 1
          observe(admittedAt, ending[3], used, ending[5])
          fl = fl - 1
          if not ob then
            local tokens = max(0, min(ceiling - used, burst))
            bs, ba = min(spentOf(bs, ba, br, burst, now), (burst - tokens) * TOKEN), now
            ob = true
          end
        end
        if told ~= -1 then
          -- See src/quota/hold.ts.
          local ms = min(told, 3600000)
          if told < 1000 then
            if hs ~= -1 and admittedAt > hs then hn = min(hn * 2, 60000) end
            ms = told == -2 and hn or hn / 10
          end
          hs, hu = now, max(hu, now + ms)
        elseif admittedAt > hs then
          hn, hs = 10000, -1
        end
      end
      st, n, toHold = st + 1, n + 1, toHold + 1
    end
  end
end
if toHold > 0 then redis.call('HINCRBY', STATE, 'f:' .. stepAfterWindow(now), toHold) end
redis.call('HSET', STATE, 't', now, 'off', off, 'hd', hd, 'st', st, 'fl', fl, 'n', n, 'i:' .. id, mine, 'q:' .. id, seq,
  'bs', bs, 'ba', ba, 'fo', fo, 'fr', fr, 'fu', fu, 'fxu', xu, 'fxa', xa, 'fxn', xn, 'fxw', xw, 'fxo', xo, 'fxb', xb,
  'hu', hu, 'hs', hs, 'hn', hn, 'ob', ob and '1' or '0')
return { 1, now, seq }
