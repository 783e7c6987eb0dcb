-- The slots of the account: how many may be given out now, and when there will be more; after membership.lua.
-- src/quota/slot-supply.ts and pacing.ts are the model, with the reasons.
local FIRST_RESPONSE, ASK_FOR_FIRST = 2000, 100
local RECOMPUTE, SAMPLES, MAX_CARRY, SLOWEST, AFTER_BURST = 100, 240, 4, 0.25, 0.5

local function slotAt(index)
  return tonumber(redis.call('ZRANGE', SLOTS, index, index, 'WITHSCORES')[2])
end

-- `silent`: see membership.lua.
local function slotSupply(s, now, silent)
  local usable, completed = request.ceiling - heldBySilent(silent, 0), redis.call('ZCARD', SLOTS)
  local external, remaining, externalForMs = 0, FAR, 0
  if s.externalUntil > now then external, remaining, externalForMs = s.external, s.remaining, s.externalUntil - now end
  local supply = { cooldownMs = max(0, s.cooldownUntil - now) }

  function supply.free()
    return usable - s.inFlight - completed - external
  end

  -- The largest constant rate at which the window never runs dry, and what a burst may take of it. `reserved` is kept for some.
  function supply.pace(reserved)
    if now - s.pacedAt < RECOMPUTE then return end
    local free = supply.free() - reserved
    local perMs = max(1, usable) / WINDOW
    local afterBurst = (max(1, usable - external) / WINDOW) * AFTER_BURST
    local rate, headroom = perMs, FAR
    local lateMs = max(0, min(now - s.paidUntil, MAX_CARRY / perMs) - 1 / perMs)
    local function constrain(slots, ms)
      rate = min(rate, slots / min(ms + lateMs, WINDOW))
      headroom = min(headroom, slots - afterBurst * ms)
    end
    -- Silent members may take a part of the slots that expire.
    local function left(expired)
      return usable - request.ceiling + heldBySilent(silent, expired)
    end
    local within = completed
    for i = 0, completed - 1, max(1, ceil(completed / SAMPLES)) do
      local ms = max(1, slotAt(i) - now)
      if ms > WINDOW then
        within = i
        break
      end
      constrain(free + i + 1 - left(i + 1) + (externalForMs <= ms and external or 0), ms)
    end
    if external > 0 then constrain(free, max(1, externalForMs)) end
    constrain(free + within - left(within) + external, WINDOW)
    s.pace, s.headroom, s.pacedAt = max(rate, perMs * SLOWEST), headroom, now
  end

  function supply.isCrowded()
    return s.inFlight >= remaining
  end

  -- New state sends one request alone, for a while.
  local function awaitsFirstResponse()
    return s.primed == 0 and s.inFlight > 0 and now - s.firstAdmittedAt < FIRST_RESPONSE
  end

  local function burstNow()
    local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
    return min(floor((request.burst * TOKEN - spent) / TOKEN), max(0, floor(s.headroom)))
  end

  -- Until so many slots are free, of which `slots` are now.
  function supply.slotsMs(places, slots)
    if supply.isCrowded() then return externalForMs end
    if slots >= places then return 0 end
    local free = places - slots > completed and WINDOW or slotAt(places - slots - 1) - now
    return external == 0 and free or min(free, externalForMs)
  end

  -- Until the account has slots for so many, at its pace.
  function supply.waitMs(places, slots)
    if awaitsFirstResponse() and places <= request.burst then return ASK_FOR_FIRST end
    local paced = places <= burstNow() and 0 or max(0, ceil(s.paidUntil + places / s.pace - now))
    return max(supply.slotsMs(places, slots), paced)
  end

  -- Slots that may be given out now: at the account's pace, or as a burst of an account that was idle.
  -- `keptBack` of a slot is left to others.
  function supply.available(slots, background, keptBack)
    if supply.isCrowded() or awaitsFirstResponse() then return 0 end
    -- A background request leaves some to those with a caller.
    local spare = background and min(ceil(request.ceiling / 10), floor(request.burst / 2)) or 0
    if spare > 0 then return now < s.contendedUntil and 0 or min(slots, burstNow()) - spare end
    local paced = max(0, floor(min(MAX_CARRY, (now - s.paidUntil) * s.pace) - keptBack))
    return min(slots, max(burstNow() - ceil(keptBack), paced))
  end

  -- Takes a slot. Returns what its completion is to name.
  function supply.lease()
    if s.inFlight + completed == 0 then s.firstAdmittedAt = now end
    s.inFlight = s.inFlight + 1
    s['inFlight:' .. REPLICA] = (s['inFlight:' .. REPLICA] or 0) + 1
    local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
    s.spent, s.spentAt = min(spent + TOKEN, request.burst * TOKEN), max(s.spentAt, now)
    local interval = 1 / s.pace
    s.paidUntil = min(max(s.paidUntil, now - MAX_CARRY * interval) + interval, now)
    s.headroom = s.headroom - 1
    return { spent = 0, completedBefore = s.everCompleted, freedBefore = s.everCompleted - completed }
  end

  return supply
end
