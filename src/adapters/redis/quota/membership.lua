-- Which replicas take part, and what has to be left to those that are silent; in front of the scripts that need it.
--
-- A member is silent when it has not confirmed for SILENT ms that it hears Redis; from 2.5 s on it may work alone, on its
-- share. So from then on its share is reserved, for the grace time in which others were heard; and what it has in flight is
-- held until it cannot arrive any more.
--
-- A member has: `confirmedAt`, the latest time at which the member itself knows that it was heard; `share`, which it knows
-- of, and `promised`, of the latest snapshot sent to it; `mode`, local or closed; `maxInFlightMs`; `attendedMs` when it was last heard;
-- `process`; `basis` and `sent`: see `silentOf`; and, true or absent, `gone`, `expected` (to join, before anything is admitted), `fromCopy` (of a state that
-- another server had).
local SILENT = 1750

-- Slots reserved for silent members (but for `self`, which is speaking), and how many they are.
local function reservedForSilent(members, now, self)
  local reserved, silent = 0, 0
  for id, member in pairs(members) do
    if id ~= self and not member.gone and now > member.confirmedAt + SILENT then
      reserved, silent = reserved + max(member.share, member.promised), silent + 1
    end
  end
  return reserved, silent
end

-- Slots that silent members may hold now, if they work alone. A lone replica gives out no more than its part of what its
-- latest snapshot left free and of the slots that have expired since (allowance in fallback.ts). So this grows as the window
-- turns over, up to the member's share, and does not stop the others at once. Which of two snapshots a member works by is
-- unknown here: `basis`, the latest that it has confirmed, or `sent`, the latest that was sent.
local function silentOf(members, now, self, ceiling)
  local silent = {}
  for id, member in pairs(members) do
    if id ~= self and not member.gone and now > member.confirmedAt + SILENT then
      local each = { most = max(member.share, member.promised) }
      if member.basis and member.sent then
        for _, basis in ipairs({ member.basis, member.sent }) do
          local still = redis.call('ZCOUNT', SLOTS, '(' .. (now + SLACK), basis.asOf + LEASE)
          local left = max(ceiling, basis.ceiling or 0) - basis.reserved
          each[#each + 1] = { left = left, still = still, replicas = max(1, basis.replicas) }
        end
      end
      silent[#silent + 1] = each
    end
  end
  return silent
end

-- Slots that they may hold when so many more have expired.
local function heldBySilent(silent, expired)
  local total = 0
  for _, member in ipairs(silent) do
    local may = #member == 0 and member.most or 0
    for _, basis in ipairs(member) do
      may = max(may, floor(max(0, basis.left - max(0, basis.still - expired)) / basis.replicas))
    end
    total = total + min(member.most, may)
  end
  return total
end

-- While Redis is away this time does not pass: those that come back first must not take the others, which are about to, for
-- dead.
local function attend(s, now)
  s.attendedMs = s.attendedMs + max(0, min(now - s.heardAt, 1000))
  s.heardAt = now
end

local function forget(s, members, id)
  members[id] = nil
  s['inFlight:' .. id], s['number:' .. id] = nil, nil
  redis.call('HDEL', STATE, 'ticket:' .. id, 'inFlight:' .. id, 'number:' .. id, 'unanswered:' .. id, 'entered:' .. id)
end

-- Removes those that are gone for good: nothing is reserved for them, and their slots are held for one window from the moment they
-- cannot arrive any more.
local function bury(s, members, now, graceMs)
  for id, member in pairs(members) do
    if s.attendedMs - member.attendedMs > graceMs then member.gone = true end
    if member.gone and now > member.confirmedAt + member.maxInFlightMs then
      local left = tonumber(redis.call('HGET', STATE, 'inFlight:' .. id) or 0)
      hold(s, now + LEASE, left)
      s.inFlight, s.orphansUntil = s.inFlight - left, now + LEASE
      forget(s, members, id)
    end
  end
end

-- Slots that the member may hold should it lose Redis: an equal share, less what others may still believe to be theirs. And how
-- many replicas share the account.
local function shareOf(members, id, ceiling)
  local replicas, others = 0, 0
  for other, member in pairs(members) do
    if member.mode == 'local' and not member.gone then
      replicas = replicas + 1
      if other ~= id then others = others + max(member.share, member.promised) end
    end
  end
  if not members[id] or members[id].mode ~= 'local' then return 0, replicas end
  return max(0, min(floor(ceiling / replicas), ceiling - others)), replicas
end

-- The share of the member that is speaking, and what the snapshot that it gets with it says.
local function promise(members, now, ceiling)
  local member, reserved, silent = members[REPLICA], reservedForSilent(members, now, REPLICA)
  if not member then return end
  local share, replicas = shareOf(members, REPLICA, ceiling)
  member.promised, member.sent = share, { asOf = now, reserved = reserved, replicas = replicas - silent, ceiling = ceiling }
end

-- Held slots that are not in flight: [ms, slots] for each second from now, and what is held for longer in the last of them.
-- So many as there are at most, however many slots there are.
local function expiriesOf(now, completed)
  local expiries, found = {}, 0
  for second = 1, ceil(LEASE / 1000) do
    if found == completed then break end
    local from, to = now + (second - 1) * 1000, now + second * 1000
    local count = redis.call('ZCOUNT', SLOTS, '(' .. from, to)
    if count > 0 then expiries[#expiries + 1] = { second * 1000, count } end
    found = found + count
  end
  if found < completed then
    local last = redis.call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')
    expiries[#expiries + 1] = { tonumber(last[2]) - now, completed - found }
  end
  -- An empty list would become an object.
  return #expiries > 0 and expiries or nil
end

-- How the account stands, for the member that has just been heard: see src/adapters/redis/standing.ts.
local function snapshot(s, members, now, stateId, readings)
  local share, replicas = shareOf(members, REPLICA, request.ceiling)
  local reserved, silent = reservedForSilent(members, now, REPLICA)
  local completed, mates, counts = redis.call('ZCARD', SLOTS), {}, {}
  for id in pairs(members) do counts[#counts + 1] = 'inFlight:' .. id end
  if #counts > 0 then fetch(s, counts) end
  for id, member in pairs(members) do
    local basis, sent = member.basis, member.sent
    mates[id] = {
      inFlight = s['inFlight:' .. id] or 0, share = not member.gone and max(member.share, member.promised) or nil,
      basis = basis and sent and { ageMs = now - basis.asOf, replicas = min(basis.replicas, sent.replicas) } or nil,
    }
  end
  local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  local externalForMs = max(0, s.externalUntil - now)
  return reply('ok', {
    now = now, stateId = stateId, advertised = s.advertised, share = share, replicas = replicas, mates = mates,
    reserved = reserved, silent = silent,
    inFlight = s.inFlight, completed = completed, expiries = expiriesOf(now, completed),
    tokens = floor(max(0, request.burst * TOKEN - spent) / TOKEN),
    external = externalForMs > 0 and s.external or 0, externalForMs = externalForMs,
    cooldownMs = max(0, s.cooldownUntil - now), orphans = s.orphansUntil > now, closedForMs = max(0, s.closedUntil - now),
    primed = s.primed == 1, counts = readings or nil, changes = s.changes,
  })
end
