-- Who takes part, and what has to be left to those who are silent. Put in front of the scripts that may need it.
--
-- A member is silent when it has not confirmed for SILENT ms that it hears Redis; from 2.5 s on it may work alone, on its
-- share. So from then on its share is reserved, for `reserve` ms in which others were heard (`s`); and what it has in flight is held until it can not
-- arrive any more. `c` is the latest time at which the member itself knows that it was heard: not when it spoke.
local SILENT = 1750

-- Puts slots into the step `at`.
local function hold(step, count)
  redis.call('HINCRBY', STATE, 'f:' .. step, count)
end

-- Slots reserved for silent members (but for `self`, who is speaking), when to look again, and how many they are.
local function roster(members, now, self)
  local reserved, again, silent = 0, FAR, 0
  for who, m in pairs(members) do
    if not m.gone then
      if now <= m.c + SILENT then
        again = min(again, m.c + SILENT + 1)
      elseif who ~= self then
        reserved, silent = reserved + max(m.a, m.p), silent + 1
      end
    end
  end
  return reserved, again, silent
end

-- Time in which somebody was heard. While Redis is away it does not pass: those who come back first must not take the
-- others, who are about to, for dead.
local function attended(before, last, now)
  return before + max(0, min(now - last, 1000))
end

-- Those who are gone for good: nothing is reserved for them, and their slots are held for one window from the moment they
-- can not arrive any more.
local function bury(members, now, present, reserveMs)
  local orphans, inFlight = 0, 0
  for id, m in pairs(members) do
    if present - m.s > reserveMs then m.gone = true end
    if m.gone and now > m.c + m.flight then
      local left = num(redis.call('HGET', STATE, 'i:' .. id), 0)
      if left > 0 then hold(stepAfterWindow(now), left) end
      inFlight = inFlight + left
      redis.call('HDEL', STATE, 'k:' .. id, 'i:' .. id, 'q:' .. id)
      members[id] = nil
      orphans = now + WINDOW + STEP
    end
  end
  return inFlight, orphans
end

local function encoded(members)
  -- An empty table would become a list.
  if next(members) == nil then return '{}' end
  return cjson.encode(members)
end

-- What the member may hold should it lose Redis: an equal share; but what others were told, and may not have heard is less
-- now, is not given out twice.
local function shareOf(members, id, ceiling)
  local replicas, others = 0, 0
  for who, each in pairs(members) do
    if each.mode == 'local' and not each.gone then
      replicas = replicas + 1
      if who ~= id then others = others + max(each.a, each.p) end
    end
  end
  if not members[id] or members[id].mode ~= 'local' then return 0, replicas end
  return max(0, min(floor(ceiling / replicas), ceiling - others)), replicas
end

-- {1, now, share, replicas, in flight, answered and held, tokens, foreign, foreign for, hold for, slots unknown to members
-- for, closed for, reserved for silent members, how many they are, members with their shares (JSON),
-- name of this state, {steps from now, slots, …}}
local function standing(s)
  local now, held, rest = s.now, {}, s.st
  local present = floor(now / STEP)
  -- Until all of them are found: of a thousand accounts most have none, and each replica asks of each twice a second.
  local from, last = s.hd, s.hd + 601
  while rest > 0 and from <= last do
    local to, names = min(from + 63, last), {}
    for step = from, to do names[#names + 1] = 'f:' .. step end
    local counts = redis.call('HMGET', STATE, unpack(names))
    for i = 1, #names do
      local count = num(counts[i], 0)
      if count > 0 then
        held[#held + 1] = from + i - 1 - present
        held[#held + 1] = count
        rest = rest - count
      end
    end
    from = to + 1
  end
  if rest > 0 then
    held[#held + 1] = 602 + floor(s.flight / STEP)
    held[#held + 1] = rest
  end
  local shares = {}
  for who, each in pairs(s.members) do if not each.gone then shares[who] = max(each.a, each.p) end end
  local f = redis.call('HMGET', STATE, 'fo', 'fu', 'hu', 'base')
  local foreignFor = max(0, num(f[2], 0) - now)
  return { 1, now, s.share, s.replicas, s.fl, s.st, floor(max(0, s.burst * TOKEN - s.bs) / TOKEN),
    foreignFor > 0 and tonumber(f[1]) or 0, foreignFor, max(0, num(f[3], 0) - now), max(0, s.ou - now), max(0, s.ro - now),
    s.reserved, s.silent, encoded(shares), f[4], held }
end
