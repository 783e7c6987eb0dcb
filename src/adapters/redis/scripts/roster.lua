-- Who takes part, and what has to be left to those who are silent. Put in front of the scripts that may need it.
--
-- A member is silent when it has not confirmed for SILENT ms that it hears Redis; from 2.5 s on it may work alone, on its
-- share. So from then on its share is reserved, for `reserve` ms; and what it has in flight is held until it can not
-- arrive any more. `c` is the latest time at which the member itself knows that it was heard: not when it spoke.
local SILENT = 1750

-- Puts slots into the step `at`.
local function hold(step, count)
  redis.call('HINCRBY', STATE, 'f:' .. step, count)
end

-- Slots reserved for silent members, and when to look again.
local function roster(members, now, reserveMs)
  local reserved, again = 0, FAR
  for _, m in pairs(members) do
    local silentAt, goneAt = m.c + SILENT, m.c + reserveMs
    if now <= silentAt then again = min(again, silentAt + 1)
    elseif now <= goneAt and not m.gone then
      reserved = reserved + max(m.a, m.p)
      again = min(again, goneAt + 1)
    end
  end
  return reserved, again
end

-- Those who are gone for good: their slots are held for one window from the moment they can not arrive any more.
local function bury(members, now, reserveMs)
  local orphans, inFlight = 0, 0
  for id, m in pairs(members) do
    if now > m.c + reserveMs then m.gone = true end
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
-- for, closed for, members (JSON list), {steps from now, slots, …}}
local function standing(s)
  local now, held, rest, names = s.now, {}, s.st, {}
  local present = floor(now / STEP)
  for step = s.hd, s.hd + 601 do names[#names + 1] = 'f:' .. step end
  local counts = redis.call('HMGET', STATE, unpack(names))
  for i = 1, #names do
    local count = num(counts[i], 0)
    if count > 0 then
      held[#held + 1] = s.hd + i - 1 - present
      held[#held + 1] = count
      rest = rest - count
    end
  end
  if rest > 0 then
    held[#held + 1] = 602 + floor(s.flight / STEP)
    held[#held + 1] = rest
  end
  local ids = {}
  for who, each in pairs(s.members) do if not each.gone then ids[#ids + 1] = who end end
  local f = redis.call('HMGET', STATE, 'fo', 'fu', 'hu')
  local foreignFor = max(0, num(f[2], 0) - now)
  return { 1, now, s.share, s.replicas, s.fl, s.st, floor(max(0, s.burst * TOKEN - s.bs) / TOKEN),
    foreignFor > 0 and tonumber(f[1]) or 0, foreignFor, max(0, num(f[3], 0) - now), max(0, s.ou - now), max(0, s.ro - now),
    #ids == 0 and '[]' or cjson.encode(ids), held }
end
