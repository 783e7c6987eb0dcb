-- Decides for each of those that ask, in their order: a slot and the tokens for one request, or a rejection that spent
-- nothing.
-- Request  cluster (true: this server is a node of one)   ceiling, burst   reservations: [[tenant, slots], …]
--          asks: tenant, absent for the gateway's own; rate, burst, weight; maxWaitMs; spare: slots and tokens left to others
-- Reply    decisions, in the order of the asks: { spent, completedBefore } with a slot, { spent, by, waitMs } without one,
--          with cooldownMs in a cooldown
--          | unknown | late | recovering, with waitMs
--
-- A tenant may claim its slot this much after its time, and this much before.
local GRACE, EARLY = 250, 10

local s = load()
local found = redis.call('HMGET', STATE, 'ticket:' .. REPLICA, 'node', 'members')
if found[1] ~= TICKET then return reply('unknown') end
if request.cluster and found[2] ~= redis.call('CLUSTER', 'MYID') then return reply('unknown') end
local now = tick(s)
if not now then return reply('late') end
if s.closedUntil > now then return reply('recovering', { now = now, waitMs = s.closedUntil - now }) end

-- Its own share is not kept from the replica that asks: it does not work alone.
local silent = reservedForSilent(cjson.decode(found[3]), now, REPLICA)
expire(now)
local completed = redis.call('ZCARD', SLOTS)
local external, remaining, externalForMs = 0, FAR, 0
if s.externalUntil > now then external, remaining, externalForMs = s.external, s.remaining, s.externalUntil - now end
local cooldownMs = max(0, s.cooldownUntil - now)
refill(s, now)

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

-- See src/quota/fair-queue.ts.
local function leave(tenant)
  redis.call('ZREM', QUEUE, tenant)
  redis.call('ZREM', DUE, tenant)
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

local function serve(tenant, virtualTime, weight)
  leave(tenant)
  local first = redis.call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')
  s.virtualTime = max(s.virtualTime, min(virtualTime, tonumber(first[2] or virtualTime)))
  s['virtualTime:' .. tenant] = virtualTime + 1 / weight
end

for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', '(' .. (now - GRACE))) do leave(tenant) end

-- The tenant's bucket as of now, and its next virtual time; a new rate counts from now on.
local function bucketOf(ask)
  local tenant = ask.tenant
  local spent, at, rate, next = 'spent:' .. tenant, 'spentAt:' .. tenant, 'rate:' .. tenant, 'virtualTime:' .. tenant
  if not s[spent] then fetch(s, { spent, at, rate, next }) end
  if not s[spent] then return 0, 0 end
  local present = spentOf(s[spent], s[at], s[rate], ask.burst, now)
  if s[rate] ~= ask.rate then s[spent], s[at], s[rate] = present, now, ask.rate end
  return present, s[next]
end

-- Until `short` more slots are free.
local function slotsMs(short, crowded)
  if crowded then return externalForMs end
  local free = 0
  if short > completed then
    free = WINDOW
  elseif short > 0 then
    free = tonumber(redis.call('ZRANGE', SLOTS, short - 1, short - 1, 'WITHSCORES')[2]) - now
  end
  return external == 0 and free or min(free, externalForMs)
end

local function take(spent)
  s.inFlight = s.inFlight + 1
  s['inFlight:' .. REPLICA] = (s['inFlight:' .. REPLICA] or 0) + 1
  s.spent, s.spentAt = min(spent + TOKEN, request.burst * TOKEN), now
end

local function decide(ask)
  local tenant = ask.tenant
  local others, entitled = reservedFor(tenant)
  local slots = request.ceiling - silent - s.inFlight - completed - external - others
  local crowded = s.inFlight >= remaining
  local spentByAll = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  -- Until the account has something for so many.
  local function accountMs(places)
    local window = (slots < places or crowded) and slotsMs(places - slots, crowded) or 0
    return max(window, waitFor(spentByAll, places, request.ceiling, request.burst))
  end

  if not tenant then
    local wait = max(cooldownMs, (slots < 1 or crowded) and slotsMs(1 - slots, crowded) or 0)
    if wait > 0 then return { spent = 0, by = cooldownMs > 0 and 'cooldown' or 'account', waitMs = wait, cooldownMs = cooldownMs } end
    take(spentByAll)
    return { spent = 0, completedBefore = s.everCompleted }
  end

  local spent, next = bucketOf(ask)
  local tenantMs = waitFor(spent, 1, ask.rate, ask.burst)
  if cooldownMs > 0 then
    return { spent = spent, by = 'cooldown', waitMs = max(cooldownMs, tenantMs), cooldownMs = cooldownMs }
  end
  if tenantMs > 0 then
    leave(tenant)
    return { spent = spent, by = 'tenant', waitMs = max(tenantMs, accountMs(1)) }
  end

  local virtualTime = tonumber(redis.call('ZSCORE', QUEUE, tenant) or max(next, s.virtualTime - 1 / ask.weight))
  local available = 0
  if not crowded then available = min(slots, floor((request.burst * TOKEN - spentByAll) / TOKEN)) - ask.spare end
  if available < 1 or (available <= claimedAhead(virtualTime) and not entitled) then
    local wait = max(accountMs(ahead(virtualTime) + 1), 1)
    if wait <= ask.maxWaitMs then
      redis.call('ZADD', QUEUE, virtualTime, tenant)
      redis.call('ZADD', DUE, now + wait, tenant)
      redis.call('PEXPIRE', QUEUE, KEPT)
      redis.call('PEXPIRE', DUE, KEPT)
    end
    return { spent = spent, by = 'account', waitMs = wait }
  end

  take(spentByAll)
  serve(tenant, virtualTime, ask.weight)
  spent = min(spent + TOKEN, ask.burst * TOKEN)
  s['spent:' .. tenant], s['spentAt:' .. tenant], s['rate:' .. tenant] = spent, now, ask.rate
  local recent = admissions[tenant]
  if recent then
    recent[#recent + 1] = now + WINDOW
    redis.call('HSET', STATE, 'admissions:' .. tenant, cjson.encode(recent))
  end
  return { spent = spent, completedBefore = s.everCompleted }
end

local decisions = {}
for i, ask in ipairs(request.asks) do decisions[i] = decide(ask) end
save(s)
return reply('ok', { now = now, decisions = decisions })
