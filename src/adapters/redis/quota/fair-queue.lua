-- Which tenant is next, and the slots that are kept for some; after common.lua in the scripts that need it. src/quota/fair-queue.ts
-- is the model, with the reasons.
--
-- A tenant may claim its slot this much after its time, and this much before.
local GRACE, EARLY = 250, 10

-- A tenant's place in the queue is free.
local function leave(tenant)
  redis.call('ZREM', QUEUE, tenant)
  redis.call('ZREM', DUE, tenant)
end

-- Tenants that did not ask in time lose their places.
local function expirePlaces(now)
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', '(' .. (now - GRACE))) do leave(tenant) end
end

-- The latest time until which a request waits, or will have lost its place; nil where none waits.
local function waitsUntil()
  local due = redis.call('ZRANGE', DUE, -1, -1, 'WITHSCORES')[2]
  return due and tonumber(due) + GRACE
end

-- `next` is that of the tenant's next request, if it had one before.
local function virtualTimeOf(s, tenant, weight, next)
  return tonumber(redis.call('ZSCORE', QUEUE, tenant) or max(next or 0, s.virtualTime - 1 / weight))
end

-- Slots that tenants ahead may claim now.
local function claimedAhead(virtualTime, now)
  local claimed = 0
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now + EARLY)) do
    local other = tonumber(redis.call('ZSCORE', QUEUE, tenant) or virtualTime)
    if other < virtualTime then claimed = claimed + ceil(virtualTime - other) end
  end
  return claimed
end

-- Tenants ahead, due or not. As `..` writes a number, it would be rounded.
local function ahead(virtualTime)
  return redis.call('ZCOUNT', QUEUE, '-inf', '(' .. string.format('%.17g', virtualTime))
end

-- A later request of the tenant does not put off the one before it.
local function join(tenant, virtualTime, dueAt, now)
  local known = tonumber(redis.call('ZSCORE', DUE, tenant) or 0)
  redis.call('ZADD', QUEUE, virtualTime, tenant)
  redis.call('ZADD', DUE, known > now and min(known, dueAt) or dueAt, tenant)
  redis.call('PEXPIRE', QUEUE, KEPT)
  redis.call('PEXPIRE', DUE, KEPT)
end

local function serve(s, tenant, virtualTime, weight)
  leave(tenant)
  local first = redis.call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')
  s.virtualTime = max(s.virtualTime, min(virtualTime, tonumber(first[2] or virtualTime)))
  s['virtualTime:' .. tenant] = virtualTime + 1 / weight
end

-- Slots a minute that are kept for their tenants: admissions of the last minute count against them.
local function readReservations(now)
  local recent = {}
  for _, reservation in ipairs(request.reservations) do
    local tenant, list = reservation[1], {}
    for _, expiresAt in ipairs(cjson.decode(redis.call('HGET', STATE, 'admissions:' .. tenant) or '[]')) do
      if expiresAt > now then list[#list + 1] = expiresAt end
    end
    recent[tenant] = list
  end

  local reservations = {}

  -- Slots kept for all but the tenant, and whether some are kept for it.
  function reservations.keptForOthers(tenant)
    local others, entitled = 0, false
    for _, reservation in ipairs(request.reservations) do
      local left = max(0, reservation[2] - #recent[reservation[1]])
      if reservation[1] == tenant then entitled = left > 0 else others = others + left end
    end
    return others, entitled
  end

  function reservations.admitted(tenant)
    local list = recent[tenant]
    if not list then return end
    list[#list + 1] = now + WINDOW
    redis.call('HSET', STATE, 'admissions:' .. tenant, cjson.encode(list))
  end

  return reservations
end
