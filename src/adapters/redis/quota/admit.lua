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
local MIN_WAIT, KEPT_BACK, CONTENDED = 1, 0.5, 1000

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
local open, charged = settle(s, now), {}
expirePlaces(now)
expireCompeting(now)
-- Its own share is not kept from the replica that asks: it does not work alone.
local supply = slotSupply(s, now, silentOf(cjson.decode(found[3]), now, REPLICA, request.ceiling))
local reservations = readReservations(now)

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

-- Requests of other tenants that are served before a request at this virtual time, if all that compete come.
local function competingAhead(tenant, virtualTime)
  local before = 0
  for _, other in ipairs(redis.call('ZRANGE', COMPETING, 0, -1)) do
    if other ~= tenant then
      local next, weight = 'virtualTime:' .. other, 'weight:' .. other
      if not s[weight] then fetch(s, { next, weight }) end
      local lead = virtualTime - virtualTimeOf(s, other, s[weight] or 1, s[next])
      if lead > 0 then before = before + ceil(lead * (s[weight] or 1)) end
    end
  end
  return before
end

-- A place in the queue, or an appointment. Returns whether the tenant competes for the account's slots; nil: it booked nothing.
local function book(ask, bookings, rejection, at)
  local tenant, competes = ask.tenant, rejection.by == 'account'
  if not competes then leave(tenant) end
  if not ask.books then return nil end
  if rejection.waitMs <= ask.maxWaitMs then
    if competes then join(tenant, at.virtualTime, now + rejection.askAgainMs, now) end
    local waiting = { rank = at.rank, lapsesAt = now + ask.maxWaitMs, isNewcomer = at.isNewcomer }
    rejection.place, rejection.rankMs = wait(s, bookings, waiting, at.place), at.rank - now
    return competes
  end
  local waitMs = competes and appointmentMs(s, rejection.waitMs, ask.maxWaitMs) or rejection.waitMs
  waitMs = max(1, ceil(waitMs / 1000)) * 1000
  if appoint(bookings, now + waitMs) then rejection.waitMs, rejection.appointment = waitMs, true end
  return competes
end

local function admitted(ask, at)
  local tenant, lease = ask.tenant, supply.lease()
  admittedBeside(s, at.isNewcomer)
  serve(s, tenant, at.virtualTime, ask.weight)
  chargeAll(s, now, ask.charges)
  for _, charge in ipairs(ask.charges or {}) do charged[#charged + 1] = { budgets.labels[charge[1]][1], charge[2] } end
  reservations.admitted(tenant)
  lease.spent = min(at.spent + TOKEN, ask.burst * TOKEN)
  s['spent:' .. tenant], s['spentAt:' .. tenant], s['rate:' .. tenant] = lease.spent, now, ask.rate
  return lease
end

-- For a request without a slot, with `waiting` of its tenant before it.
local function rejected(ask, bookings, at, waiting, slots, ownMs)
  local function estimate(before)
    local ofAccount = supply.waitMs(before + competingAhead(ask.tenant, at.virtualTime + before / ask.weight) + 1, slots)
    local own = ownMs(before + 1)
    return max(own, ofAccount, MIN_WAIT), own > ofAccount and 'tenant' or 'account'
  end
  local before = waiting
  if not at.isExpected then
    local count = #bookings.appointments
    local firstMs = estimate(waiting)
    local each = (estimate(waiting + count) - firstMs) / max(1, count)
    for i = count, 1, -1 do
      if bookings.appointments[i] - now < appointmentMs(s, firstMs + i * each, ask.maxWaitMs) then
        before = waiting + i
        break
      end
    end
  end
  local waitMs, by = estimate(before)
  local firstMs = max(ownMs(waiting + 1), supply.waitMs(ahead(at.virtualTime) + waiting + 1, slots))
  local rejection = { spent = at.spent, by = by, waitMs = waitMs, askAgainMs = max(MIN_WAIT, min(firstMs, waitMs)) }
  return rejection, book(ask, bookings, rejection, at)
end

-- Returns the decision, and what `book` returns.
local function decideFor(ask, bookings, competed)
  local tenant = ask.tenant
  local keptForOthers, entitled = reservations.keptForOthers(tenant)
  local slots = supply.free() - keptForOthers
  local spent, next = bucketOf(ask)
  local virtualTime = virtualTimeOf(s, tenant, ask.weight, next)
  local rank, isNewcomer
  if ask.place then rank, isNewcomer = withoutPlace(bookings, ask.place) end
  if isNewcomer == nil then isNewcomer = not competed end
  local place, isExpected = rank and ask.place, rank ~= nil
  local limit = exhausted(ask.charges)
  if limit then return { spent = spent, by = 'budget', waitMs = 0, askAgainMs = 0, exhausted = limit } end
  if not rank then
    isExpected = useAppointment(bookings, now)
    rank = rankOf(now, ask.urgency, isExpected)
  end
  local function ownMs(places) return waitFor(spent, places, ask.rate, ask.burst) end
  if supply.cooldownMs > 0 then
    local wait = max(supply.cooldownMs, ownMs(1))
    return { spent = spent, by = 'cooldown', waitMs = wait, askAgainMs = wait, cooldownMs = supply.cooldownMs }
  end
  local at = {
    spent = spent, virtualTime = virtualTime, rank = rank, place = place, isExpected = isExpected, isNewcomer = isNewcomer,
  }
  local waiting = waitingBefore(bookings, rank, place or FAR)
  if (isExpected or waiting == 0) and ownMs(1) == 0 then
    if entitled and slots >= 1 and not supply.isCrowded() then return admitted(ask, at) end
    local keptBack = (isExpected or competingAhead(tenant, virtualTime) == 0) and 0 or KEPT_BACK
    local available = supply.available(slots, ask.background, keptBack)
    if available >= 1 and available > claimedAhead(virtualTime, now) then return admitted(ask, at) end
  end
  return rejected(ask, bookings, at, waiting, slots, ownMs)
end

-- The gateway's own calls need a slot, and wait for no bucket and no other tenant.
local function decideOwn()
  local slots, cooldownMs = supply.free() - reservations.keptForOthers(nil), supply.cooldownMs
  local wait = max(cooldownMs, supply.slotsMs(1, slots))
  if wait == 0 then return supply.lease() end
  return { spent = 0, by = cooldownMs > 0 and 'cooldown' or 'account', waitMs = wait, askAgainMs = wait, cooldownMs = cooldownMs }
end

local function decide(ask)
  -- A rejection before this one, in the same call, has said that the account is not idle.
  refill(s, now)
  supply.pace((reservations.keptForOthers(nil)))
  if not ask.tenant then return decideOwn() end
  local competed = isCompeting(ask.tenant)
  local bookings = bookingsOf(ask.tenant, now)
  local decision, competes = decideFor(ask, bookings, competed)
  if competes == nil then competes = competed end
  storeBookings(ask.tenant, bookings, competes)
  if #bookings.waiting == 0 then leave(ask.tenant) end
  if decision.by == 'account' then s.contendedUntil = max(s.contendedUntil, now + CONTENDED) end
  s.contendedUntil = max(s.contendedUntil, waitsUntil() or 0)
  return decision
end

local decisions = {}
for i, ask in ipairs(request.asks) do decisions[i] = decide(ask) end
remember(open, budgets.number, charged)
save(s)
return reply('ok', { now = now, decisions = decisions, last = last, counts = readTouched() })
