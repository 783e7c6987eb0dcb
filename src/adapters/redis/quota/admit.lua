-- Decides for each of those that ask, in their order: a slot and the tokens for one request, or a rejection that spent
-- nothing, and booked a slot for later. src/quota/account.ts is the model, with the reasons.
-- Request  cluster (true: this server is a node of one)   limit, adoptLimit, ceiling, burst   reservations: [[tenant, slots], …]
--          asks: tenant, absent for the gateway's own; rate, burst, weight; maxWaitMs; background: no caller waits for it;
--          urgency, 0 (most) to 7;
--          first, completions: see completions.lua   books: a rejection books; place: of a request that waits already
--          charges: see budgets.lua; and budgets.number: that of the call
-- Reply    decisions, in the order of the asks: { spent, completedBefore, freedBefore } with a slot, { spent, by, waitMs, askAgainMs }
--          without one, with cooldownMs in a cooldown, with place and rankMs if it waits, with appointment if it is to come back,
--          with exhausted, the number of a charge, if a budget has nothing left; counts: of budgets, as they are now
--          | unknown | late | recovering, with waitMs
--
-- A tenant may claim its slot this much after its time, and this much before.
local GRACE, EARLY = 250, 10
-- See src/quota/bookings.ts.
local LEVEL, APPOINTED = 1000, -40000
local MIN_WAIT, FIRST_RESPONSE, ASK_FOR_FIRST, KEPT_BACK, MAX_APPOINTMENTS, CONTENDED = 1, 2000, 100, 0.5, 1000, 1000
-- Newcomers, and early callers: see src/quota/bookings.ts.
local NEWCOMERS_OVER, MAX_NEWCOMERS, SPARE, EARLY_MS, EARLY_SLOTS = 64, 0.5, 6, 1500, 2
-- Pacing: see src/quota/pacing.ts.
local RECOMPUTE, SAMPLES, MAX_CARRY, SLOWEST, AFTER_BURST = 100, 240, 4, 0.25, 0.5

local s = load()
local found = redis.call('HMGET', STATE, 'ticket:' .. REPLICA, 'node', 'members')
if found[1] ~= TICKET then return reply('unknown') end
if request.cluster and found[2] ~= redis.call('CLUSTER', 'MYID') then return reply('unknown') end
local now = tick(s)
if not now then return reply('late') end
if s.closedUntil > now then return reply('recovering', { now = now, waitMs = s.closedUntil - now }) end

scaleQuota(s)
expire(now)
local last = takeIn(s, now)
-- Its own share is not kept from the replica that asks: it does not work alone.
local silent = silentOf(cjson.decode(found[3]), now, REPLICA, request.ceiling)
local usable = request.ceiling - heldBySilent(silent, 0)
local open, charged = settle(s, now), {}
local completed = redis.call('ZCARD', SLOTS)
local external, remaining, externalForMs = 0, FAR, 0
if s.externalUntil > now then external, remaining, externalForMs = s.external, s.remaining, s.externalUntil - now end
local cooldownMs = max(0, s.cooldownUntil - now)
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', '(' .. (now - GRACE))) do leave(tenant) end
redis.call('ZREMRANGEBYSCORE', COMPETING, '-inf', '(' .. now)

-- Admissions of the last minute count against a reservation.
local admissions = {}
for _, reservation in ipairs(request.reservations) do
  local recent = {}
  local list = redis.call('HGET', STATE, 'admissions:' .. reservation[1]) or '[]'
  for _, expiresAt in ipairs(cjson.decode(list)) do
    if expiresAt > now then recent[#recent + 1] = expiresAt end
  end
  admissions[reservation[1]] = recent
end

-- Slots reserved for all but the tenant, and whether some are for the tenant.
local function reservedFor(tenant)
  local others, entitled = 0, false
  for _, reservation in ipairs(request.reservations) do
    local left = max(0, reservation[2] - #admissions[reservation[1]])
    if reservation[1] == tenant then entitled = left > 0 else others = others + left end
  end
  return others, entitled
end

local function slotAt(index)
  return tonumber(redis.call('ZRANGE', SLOTS, index, index, 'WITHSCORES')[2])
end

-- The largest constant rate at which the window never runs dry, and what a burst may take of it.
local function pace()
  if now - s.pacedAt < RECOMPUTE then return end
  local free = usable - s.inFlight - completed - external - (reservedFor(nil))
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

local function claimedAhead(virtualTime)
  local claimed = 0
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now + EARLY)) do
    local other = tonumber(redis.call('ZSCORE', QUEUE, tenant) or virtualTime)
    if other < virtualTime then claimed = claimed + ceil(virtualTime - other) end
  end
  return claimed
end

-- Tenants ahead. As `..` writes a number, it would be rounded.
local function ahead(virtualTime)
  return redis.call('ZCOUNT', QUEUE, '-inf', '(' .. string.format('%.17g', virtualTime))
end

local function virtualTimeOf(tenant, weight, next)
  return tonumber(redis.call('ZSCORE', QUEUE, tenant) or max(next or 0, s.virtualTime - 1 / weight))
end

-- Requests of other tenants that are served before a request at this virtual time, if all that compete come.
local function competingAhead(tenant, virtualTime)
  local before = 0
  for _, other in ipairs(redis.call('ZRANGE', COMPETING, 0, -1)) do
    if other ~= tenant then
      local next, weight = 'virtualTime:' .. other, 'weight:' .. other
      if not s[weight] then fetch(s, { next, weight }) end
      local lead = virtualTime - virtualTimeOf(other, s[weight] or 1, s[next])
      if lead > 0 then before = before + ceil(lead * (s[weight] or 1)) end
    end
  end
  return before
end

local function serve(tenant, virtualTime, weight)
  leave(tenant)
  local first = redis.call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')
  s.virtualTime = max(s.virtualTime, min(virtualTime, tonumber(first[2] or virtualTime)))
  s['virtualTime:' .. tenant] = virtualTime + 1 / weight
end

-- The tenant's bucket as of now, and its next virtual time; a new rate counts from now on.
local function bucketOf(ask)
  local tenant = ask.tenant
  local spent, at, rate, next = 'spent:' .. tenant, 'spentAt:' .. tenant, 'rate:' .. tenant, 'virtualTime:' .. tenant
  if not s[spent] then fetch(s, { spent, at, rate, next }) end
  s['weight:' .. tenant] = ask.weight
  if not s[spent] then return 0, 0 end
  local present = spentOf(s[spent], s[at], s[rate], ask.burst, now)
  if s[rate] ~= ask.rate then s[spent], s[at], s[rate] = present, now, ask.rate end
  return present, s[next] or 0
end

local function isCrowded()
  return s.inFlight >= remaining
end

-- New state sends one request alone, for a while.
local function awaitsFirstResponse()
  return s.primed == 0 and s.inFlight > 0 and now - s.firstAdmittedAt < FIRST_RESPONSE
end

-- Until so many slots are free, of which `slots` are now.
local function slotsMs(places, slots)
  if isCrowded() then return externalForMs end
  if slots >= places then return 0 end
  local free = places - slots > completed and WINDOW or slotAt(places - slots - 1) - now
  return external == 0 and free or min(free, externalForMs)
end

local function burstNow()
  local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  return min(floor((request.burst * TOKEN - spent) / TOKEN), max(0, floor(s.headroom)))
end

local function accountMs(places, slots)
  if awaitsFirstResponse() and places <= request.burst then return ASK_FOR_FIRST end
  local paced = places <= burstNow() and 0 or max(0, ceil(s.paidUntil + places / s.pace - now))
  return max(slotsMs(places, slots), paced)
end

-- Slots that may be given out now: at the account's pace, or as a burst of an account that was idle.
-- `keptBack` of a slot is left to others.
local function availableNow(slots, background, keptBack)
  if isCrowded() or awaitsFirstResponse() then return 0 end
  -- A background request leaves some to those with a caller: backgroundReserve in src/quota/slot-supply.ts.
  local spare = background and min(ceil(request.ceiling / 10), floor(request.burst / 2)) or 0
  if spare > 0 then return now < s.contendedUntil and 0 or min(slots, burstNow()) - spare end
  local paced = max(0, floor(min(MAX_CARRY, (now - s.paidUntil) * s.pace) - keptBack))
  return min(slots, max(burstNow() - ceil(keptBack), paced))
end

local function take()
  if s.inFlight + completed == 0 then s.firstAdmittedAt = now end
  s.inFlight = s.inFlight + 1
  s['inFlight:' .. REPLICA] = (s['inFlight:' .. REPLICA] or 0) + 1
  local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  s.spent, s.spentAt = min(spent + TOKEN, request.burst * TOKEN), max(s.spentAt, now)
  local interval = 1 / s.pace
  s.paidUntil = min(max(s.paidUntil, now - MAX_CARRY * interval) + interval, now)
  s.headroom = s.headroom - 1
end

-- The earlier one of two equal ranks is first.
local function waitingBefore(bookings, rank, place)
  local count = 0
  for _, each in ipairs(bookings.waiting) do
    if each[2] < rank or (each[2] == rank and each[1] < place) then count = count + 1 end
  end
  return count
end

-- When the caller of a slot that is free for those that compete in `waitMs` is to come back: see src/quota/bookings.ts.
local function appointmentMs(waitMs, maxWaitMs)
  local newcomers = max(0, min(MAX_NEWCOMERS, s.newcomers) - SPARE / request.ceiling)
  return waitMs / (1 - newcomers) - min(maxWaitMs, max(EARLY_MS, EARLY_SLOTS * WINDOW / request.ceiling))
end

-- A place in the queue, or an appointment.
local function book(ask, bookings, rejection, virtualTime, rank, place, isNewcomer)
  local tenant, competes = ask.tenant, rejection.by == 'account'
  if not competes then leave(tenant) end
  if not ask.books then return nil end
  if rejection.waitMs <= ask.maxWaitMs then
    if competes then
      redis.call('ZADD', QUEUE, virtualTime, tenant)
      -- A later request of the tenant does not put off the one before it.
      local known, due = tonumber(redis.call('ZSCORE', DUE, tenant) or 0), now + rejection.askAgainMs
      redis.call('ZADD', DUE, known > now and min(known, due) or due, tenant)
      redis.call('PEXPIRE', QUEUE, KEPT)
      redis.call('PEXPIRE', DUE, KEPT)
    end
    if not place then
      s.booked = s.booked + 1
      place = s.booked
    end
    rejection.place, rejection.rankMs = place, rank - now
    bookings.waiting[#bookings.waiting + 1] = { place, rank, now + ask.maxWaitMs, isNewcomer }
  elseif #bookings.appointments < MAX_APPOINTMENTS then
    local waitMs = competes and appointmentMs(rejection.waitMs, ask.maxWaitMs) or rejection.waitMs
    rejection.waitMs, rejection.appointment = max(1, ceil(waitMs / 1000)) * 1000, true
    local at, index = now + rejection.waitMs, #bookings.appointments + 1
    while index > 1 and bookings.appointments[index - 1] > at do index = index - 1 end
    table.insert(bookings.appointments, index, at)
  end
  return competes
end

local function decideFor(ask, bookings, competed)
  local tenant = ask.tenant
  local reservedForOthers, entitled = reservedFor(tenant)
  local slots = usable - s.inFlight - completed - external - reservedForOthers
  local spent, next = bucketOf(ask)
  local virtualTime = virtualTimeOf(tenant, ask.weight, next)
  local rank, isNewcomer
  if ask.place then rank, isNewcomer = withoutPlace(bookings, ask.place) end
  if isNewcomer == nil then isNewcomer = not competed end
  local place, isExpected = rank and ask.place, rank ~= nil
  local limit = exhausted(ask.charges)
  if limit then return { spent = spent, by = 'budget', waitMs = 0, askAgainMs = 0, exhausted = limit } end
  if not rank then
    isExpected = bookings.appointments[1] ~= nil and bookings.appointments[1] <= now
    if isExpected then table.remove(bookings.appointments, 1) end
    rank = now + (isExpected and APPOINTED or ask.urgency * LEVEL)
  end
  local function ownMs(places) return waitFor(spent, places, ask.rate, ask.burst) end
  if cooldownMs > 0 then
    local wait = max(cooldownMs, ownMs(1))
    return { spent = spent, by = 'cooldown', waitMs = wait, askAgainMs = wait, cooldownMs = cooldownMs }
  end
  local waiting = waitingBefore(bookings, rank, place or FAR)
  if (isExpected or waiting == 0) and ownMs(1) == 0 then
    local keptBack = (isExpected or competingAhead(tenant, virtualTime) == 0) and 0 or KEPT_BACK
    local isEntitled = entitled and slots >= 1 and not isCrowded()
    local available = isEntitled and 0 or availableNow(slots, ask.background, keptBack)
    if isEntitled or (available >= 1 and available > claimedAhead(virtualTime)) then
      take()
      if redis.call('ZCARD', COMPETING) > 0 then
        s.newcomers = s.newcomers + ((isNewcomer and 1 or 0) - s.newcomers) / NEWCOMERS_OVER
      end
      serve(tenant, virtualTime, ask.weight)
      chargeAll(s, now, ask.charges)
      for _, charge in ipairs(ask.charges or {}) do charged[#charged + 1] = { budgets.labels[charge[1]][1], charge[2] } end
      spent = min(spent + TOKEN, ask.burst * TOKEN)
      s['spent:' .. tenant], s['spentAt:' .. tenant], s['rate:' .. tenant] = spent, now, ask.rate
      local recent = admissions[tenant]
      if recent then
        recent[#recent + 1] = now + WINDOW
        redis.call('HSET', STATE, 'admissions:' .. tenant, cjson.encode(recent))
      end
      return { spent = spent, completedBefore = s.everCompleted, freedBefore = s.everCompleted - completed }, nil
    end
  end

  local function estimate(before)
    local ofAccount = accountMs(before + competingAhead(tenant, virtualTime + before / ask.weight) + 1, slots)
    local own = ownMs(before + 1)
    return max(own, ofAccount, MIN_WAIT), own > ofAccount and 'tenant' or 'account'
  end
  local before = waiting
  if not isExpected then
    local count = #bookings.appointments
    local firstMs = estimate(waiting)
    local each = (estimate(waiting + count) - firstMs) / max(1, count)
    for i = count, 1, -1 do
      if bookings.appointments[i] - now < appointmentMs(firstMs + i * each, ask.maxWaitMs) then
        before = waiting + i
        break
      end
    end
  end
  local waitMs, by = estimate(before)
  local firstMs = max(ownMs(waiting + 1), accountMs(ahead(virtualTime) + waiting + 1, slots))
  local rejection = { spent = spent, by = by, waitMs = waitMs, askAgainMs = max(MIN_WAIT, min(firstMs, waitMs)) }
  return rejection, book(ask, bookings, rejection, virtualTime, rank, place, isNewcomer)
end

-- The gateway's own calls need a slot, and wait for no bucket and no other tenant.
local function decideOwn()
  local slots = usable - s.inFlight - completed - external - (reservedFor(nil))
  local wait = max(cooldownMs, slotsMs(1, slots))
  if wait > 0 then
    return { spent = 0, by = cooldownMs > 0 and 'cooldown' or 'account', waitMs = wait, askAgainMs = wait, cooldownMs = cooldownMs }
  end
  take()
  return { spent = 0, completedBefore = s.everCompleted, freedBefore = s.everCompleted - completed }
end

local function decide(ask)
  -- A rejection before this one, in the same call, has said that the account is not idle.
  refill(s, now)
  pace()
  if not ask.tenant then return decideOwn() end
  local competed = redis.call('ZSCORE', COMPETING, ask.tenant) and true or false
  local bookings = bookingsOf(ask.tenant, now)
  local decision, competes = decideFor(ask, bookings, competed)
  if competes == nil then competes = competed end
  storeBookings(ask.tenant, bookings, competes)
  if #bookings.waiting == 0 then leave(ask.tenant) end
  local due = redis.call('ZRANGE', DUE, -1, -1, 'WITHSCORES')[2]
  if decision.by == 'account' then s.contendedUntil = max(s.contendedUntil, now + CONTENDED) end
  if due then s.contendedUntil = max(s.contendedUntil, tonumber(due) + GRACE) end
  return decision
end

local decisions = {}
for i, ask in ipairs(request.asks) do decisions[i] = decide(ask) end
remember(open, budgets.number, charged)
save(s)
return reply('ok', { now = now, decisions = decisions, last = last, counts = readTouched() })
