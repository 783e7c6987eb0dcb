-- A replica joins, or comes back: with all slots it still holds, whatever this server knows of them. On a server that is
-- new, or that may have lost the latest (another process, another node), the state is made anew from what the replicas
-- know; nothing is admitted until all that are known of are here, or have had the time to come.
-- ARGV  5 slots in flight   6 number of the first ending in the list   7 ms that each is still held for, -1: not held; a JSON list
--       8 number of its last ending   9 hold for   10 replicas it knows of, with their shares (JSON)   11 age of that news, -1 for none
--       12 slots that others may hold: a JSON list of [ms, slots]   13 whether some belong to no living replica (0/1)
--       14 share it believes in   15 local | closed   16 ceiling 17 account burst   18 how long a request can be under way
--       19 reserve   20 time for others to come   21 cluster (0/1)   22 ticket to be given   23 process   24 adopt (0/1): the clock leapt   25 the state whose time
--       it knows
-- Returns how the account stands (see `standing`) | {-4} another process of this name is there
--         | {-2} too late, or the clock leapt | {-5, time, state} of a state that the caller does not know
local id, ticket = ARGV[2], ARGV[22]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local node = ARGV[21] == '1' and redis.call('CLUSTER', 'MYID') or ''
local ceiling, burst = tonumber(ARGV[16]), tonumber(ARGV[17])
local flight = tonumber(ARGV[18])
local f = redis.call('HMGET', STATE, 't', 'off', 'run', 'node', 'fl', 'st', 'n', 'hd', 'M', 'ro', 'gx', 'ga', 'ou', 'hu', 'i:' .. id,
  'q:' .. id, 'kn', 'at', 'lb', 'base')
local now, off, fl, st, n, hd, members, ro, gx, ga, ou, hu, known
local present = 0

-- A replica that has to be here, or have had the time to come, before anything is admitted.
local function expect(who, m, share)
  members[who] = { c = now - SILENT - 1, a = m and max(m.a, m.p) or share, p = 0,
    flight = flight, s = present, mode = m and m.mode or ARGV[15], x = true, old = m ~= nil }
end

local fresh = not f[1] or f[3] ~= run or f[4] ~= node
if fresh then
  local before = f[9] and cjson.decode(f[9]) or {}
  redis.call('DEL', STATE, LINE, DUE)
  now = wall()
  off, fl, st, n, hd = 0, 0, 0, 0, floor(now / STEP) + 1
  members, ro, gx, ga, ou, hu, known = {}, now + tonumber(ARGV[20]), {}, -1, 0, 0, false
  for who, m in pairs(before) do if not m.gone then expect(who, m) end end
  redis.call('HSET', STATE, 'base', ticket, 'run', run, 'node', node, 'bs', (burst - 1) * TOKEN, 'ba', now, 'br', ceiling, 'V', 0, 'ln', '0',
    'gl', '', 'ob', '0')
else
  members = cjson.decode(f[9])
  local t, latest = tonumber(f[1]), tonumber(ARGV[4])
  if (latest < 0 or f[20] ~= ARGV[25]) and next(members) ~= nil then
    -- A newcomer, or one that knows the time of another state, can not tell whether the clock leapt. It is told what time
    -- it was at the latest change, and comes again.
    return { -5, t, f[20] }
  end
  now, off = clock(t, tonumber(f[2]), latest, ARGV[24] == '1')
  if not now then return { -2 } end
  hd, st = expire(now, tonumber(f[8]), tonumber(f[6]))
  present = attended(num(f[18], 0), num(f[19], now), now)
  fl, n, ro = tonumber(f[5]), tonumber(f[7]), num(f[10], 0)
  gx, ga, ou, hu, known = cjson.decode(f[11]), tonumber(f[12]), num(f[13], 0), num(f[14], 0), f[17] == '1'
end

-- The replica itself. That it was heard it knows only once it has this answer: until its first beat it counts as silent.
local m = members[id] or { c = 0, a = 0, p = 0, inst = ARGV[23] }
if not fresh and m.inst and m.inst ~= ARGV[23] then
  if now <= m.c + SILENT then return { -4 } end
  -- The process that had this name is gone: a name is a host and a port, and the port was free. What it had in flight may
  -- still be on its way.
  local left = num(f[15], 0)
  if left > 0 then
    hold(floor((now + flight + WINDOW) / STEP) + 1, left)
    fl, st, n = fl - left, st + left, n + left
  end
  f[15], f[16], m.a, m.p, m.c = '0', '0', 0, 0, 0
  ou = max(ou, now + flight + WINDOW)
end
m.inst = ARGV[23]
m.a = max(tonumber(ARGV[14]), fresh and 0 or max(m.a, m.p))
m.c, m.s, m.p, m.flight, m.mode = max(m.c, now - SILENT - 1), present, 0, flight, ARGV[15]
m.x, m.old, m.gone = nil, nil, nil
members[id] = m

-- Its slots: those in flight anew, and of the answered ones those that are not known yet.
local seq = not fresh and num(f[16], 0) or 0
local inFlight = tonumber(ARGV[5])
fl = fl + inFlight - (not fresh and num(f[15], 0) or 0)
local first, list = tonumber(ARGV[6]), cjson.decode(ARGV[7])
local steps, entered = {}, 0
for i = 1, #list do
  if first + i - 1 > seq and list[i] >= 0 then
    local step = floor((now + list[i]) / STEP) + 1
    steps[step] = (steps[step] or 0) + 1
    entered = entered + 1
  end
end
for step, count in pairs(steps) do hold(step, count) end
st, n = st + entered, n + entered
if tonumber(ARGV[9]) > 0 then hu = max(hu, now + tonumber(ARGV[9])) end

if ro > now or ga >= 0 then
  -- What it knows of the others.
  local age = tonumber(ARGV[11])
  if age >= 0 then
    known = true
    local heard = cjson.decode(ARGV[10])
    if ro > now then for who, share in pairs(heard) do if not members[who] then expect(who, nil, share) end end end
    -- Of a copy's members only those count that the living know of.
    for who, each in pairs(members) do if each.x and each.old and not heard[who] then members[who] = nil end end
    if now - age > ga then
      for _, ghost in ipairs(gx) do
        if ghost[1] >= hd then
          hold(ghost[1], -ghost[2])
          st = st - ghost[2]
        end
      end
      gx, ga = {}, max(0, now - age)
      for _, each in ipairs(cjson.decode(ARGV[12])) do
        local step = floor((now + each[1]) / STEP) + 1
        hold(step, each[2])
        gx[#gx + 1] = { step, each[2] }
        st = st + each[2]
      end
    end
    if ARGV[13] == '1' then ou = max(ou, now + WINDOW) end
  end
  local missing = false
  for _, each in pairs(members) do missing = missing or (each.x and not each.gone) or false end
  if not missing and known then
    -- All are here with what they hold: what was feared of them is known now.
    if ou <= now then
      for _, ghost in ipairs(gx) do
        if ghost[1] >= hd then
          hold(ghost[1], -ghost[2])
          st = st - ghost[2]
        end
      end
    end
    gx, ga, ro = {}, -1, 0
  end
end

local share, replicas = shareOf(members, id, ceiling)
m.p = share
local reserved, again = roster(members, now)
local others, _, othersSilent = roster(members, now, id)
redis.call('HSET', STATE, 't', now, 'off', off, 'fl', fl, 'st', st, 'n', n, 'hd', hd, 'M', encoded(members), 'rs', reserved, 'rn',
  again, 'k:' .. id, ticket, 'i:' .. id, inFlight, 'q:' .. id, ARGV[8], 'ro', ro, 'gx', #gx == 0 and '[]' or cjson.encode(gx),
  'ga', ga, 'ou', ou, 'hu', hu, 'kn', known and '1' or '0', 'at', present, 'lb', now)
redis.call('PEXPIRE', STATE, 900000)
local b = redis.call('HMGET', STATE, 'bs', 'ba', 'br')
return standing({ now = now, hd = hd, st = st, fl = fl, share = share, replicas = replicas, burst = burst, ou = ou, ro = ro,
  reserved = others, silent = othersSilent,
  bs = spentOf(tonumber(b[1]), tonumber(b[2]), tonumber(b[3]), burst, now), members = members, flight = flight })
