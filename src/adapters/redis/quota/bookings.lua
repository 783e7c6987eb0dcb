-- Requests that are to have a slot later, after common.lua in the scripts that need it. src/quota/bookings.ts is the model, with
-- the reasons.
--
-- The bookings of a tenant have `waiting`: [id, rank, until, isNewcomer] of each request that waits; and `appointments`: their
-- times, ascending.
local LAPSE, LEVEL, APPOINTED, MAX_APPOINTMENTS = 2000, 1000, -40000, 1000
local NEWCOMERS_OVER, MAX_NEWCOMERS, SPARE, EARLY_MS, EARLY_SLOTS = 64, 0.5, 6, 1500, 2

local function bookingsOf(tenant, now)
  local text = redis.call('HGET', STATE, 'bookings:' .. tenant)
  local found, kept = text and cjson.decode(text) or { waiting = {}, appointments = {} }, { waiting = {}, appointments = {} }
  for _, each in ipairs(found.waiting) do
    if each[3] >= now - LAPSE then kept.waiting[#kept.waiting + 1] = each end
  end
  for _, at in ipairs(found.appointments) do
    if at >= now - LAPSE then kept.appointments[#kept.appointments + 1] = at end
  end
  return kept
end

local function storeBookings(tenant, bookings, competes)
  local field, last = 'bookings:' .. tenant, bookings.appointments[#bookings.appointments] or 0
  for _, each in ipairs(bookings.waiting) do last = max(last, each[3]) end
  if last == 0 then
    redis.call('HDEL', STATE, field)
    redis.call('ZREM', COMPETING, tenant)
    return
  end
  redis.call('HSET', STATE, field, cjson.encode(bookings))
  if competes then
    redis.call('ZADD', COMPETING, last + LAPSE, tenant)
    redis.call('PEXPIRE', COMPETING, KEPT)
  else
    redis.call('ZREM', COMPETING, tenant)
  end
end

local function expireCompeting(now)
  redis.call('ZREMRANGEBYSCORE', COMPETING, '-inf', '(' .. now)
end

local function isCompeting(tenant)
  return redis.call('ZSCORE', COMPETING, tenant) and true or false
end

local function rankOf(now, urgency, isAppointed)
  return now + (isAppointed and APPOINTED or urgency * LEVEL)
end

-- Returns the rank of the request that had this place, and whether it was a newcomer's; nil if it is not known.
local function withoutPlace(bookings, place)
  local kept, rank, isNewcomer = {}, nil, nil
  for _, each in ipairs(bookings.waiting) do
    if each[1] == place then rank, isNewcomer = each[2], each[4] else kept[#kept + 1] = each end
  end
  bookings.waiting = kept
  return rank, isNewcomer
end

-- The tenant's first appointment that is due is used.
local function useAppointment(bookings, now)
  local isDue = bookings.appointments[1] ~= nil and bookings.appointments[1] <= now
  if isDue then table.remove(bookings.appointments, 1) end
  return isDue
end

-- The earlier one of two equal ranks is first.
local function waitingBefore(bookings, rank, place)
  local count = 0
  for _, each in ipairs(bookings.waiting) do
    if each[2] < rank or (each[2] == rank and each[1] < place) then count = count + 1 end
  end
  return count
end

-- When the caller of a slot that is free for those that compete in `waitMs` is to come back.
local function appointmentMs(s, waitMs, maxWaitMs)
  local newcomers = max(0, min(MAX_NEWCOMERS, s.newcomers) - SPARE / request.ceiling)
  return waitMs / (1 - newcomers) - min(maxWaitMs, max(EARLY_MS, EARLY_SLOTS * WINDOW / request.ceiling))
end

-- While others compete, a request was admitted.
local function admittedBeside(s, isNewcomer)
  if redis.call('ZCARD', COMPETING) == 0 then return end
  s.newcomers = s.newcomers + ((isNewcomer and 1 or 0) - s.newcomers) / NEWCOMERS_OVER
end

-- Returns the id of the request: a new one, unless it has waited before.
local function wait(s, bookings, waiting, place)
  if not place then
    s.booked = s.booked + 1
    place = s.booked
  end
  bookings.waiting[#bookings.waiting + 1] = { place, waiting.rank, waiting.lapsesAt, waiting.isNewcomer }
  return place
end

-- False: there are too many.
local function appoint(bookings, at)
  if #bookings.appointments >= MAX_APPOINTMENTS then return false end
  local index = #bookings.appointments + 1
  while index > 1 and bookings.appointments[index - 1] > at do index = index - 1 end
  table.insert(bookings.appointments, index, at)
  return true
end
