-- Shared by the scripts of the quota, and put in front of each of them. src/quota/account.ts is their model: a property
-- test holds them to it, so a change of one needs the same change of the other.
--
-- KEYS  1 state: one hash an account   2 slots: those whose request has ended, by the time at which they are free
--       3 queue: waiting tenants by virtual time   4 due: the same tenants by the time at which they are to ask again
--       5 competing: tenants whose bookings compete for the account's slots, by the time at which the last one lapses
--       6 and more: see budgets.lua
-- ARGV  1 time in ms, empty for that of the server (tests set it)   2 replica   3 its ticket   4 the latest it can be by the
--       caller's clock, -1: not known   5 the request, as JSON
-- A reply is JSON too: `status`, the time `now`, and more where the status is `ok`. A status that several scripts have:
--   unknown   the ticket is not, or no longer, that of the replica: it has to join first
--   late      the command was carried out too late, or the server's clock leapt; nothing was done
--
-- Times are logical, in ms: see `tick`. These numbers are in the state; what is not stored has the value given here.
local FAR = 9e15
local DEFAULTS = {
  -- The time of the latest command; and how far the server's clock is ahead of it.
  time = 0, offset = 0,
  -- Slots whose request has not ended yet; and how many ever did, in this state.
  inFlight = 0, everCompleted = 0,
  -- The account's bucket: millionths of a token spent, as of when, refilled at this rate. Primed: a response has shown how
  -- much the minute before this state had used.
  spent = 0, spentAt = 0, rate = 1, primed = 0,
  -- When the first request of this state was admitted, and when the state was made; until when the account is not idle.
  firstAdmittedAt = FAR, contendedUntil = 0, startedAt = 0,
  -- Pacing (src/quota/pacing.ts): admissions are paid for until; slots a ms; slots that a burst may take; as of when.
  paidUntil = 0, pace = 0, headroom = 0, pacedAt = -FAR,
  -- The fair queue's (src/quota/fair-queue.ts); the latest number of a booking, and the part of the admissions that go to
  -- newcomers (src/quota/bookings.ts).
  virtualTime = 0, booked = 0, newcomers = 0,
  -- The number of the latest change of a budget's count (budgets.lua).
  changes = 0,
  -- External usage: slots, what was left for all, until when; and what it was concluded from (src/quota/advertised-limit.ts).
  external = 0, remaining = FAR, externalUntil = -1,
  peakUsed = 0, peakAdmittedAt = -FAR, peakCompletedBefore = 0, peakSeenAt = FAR,
  openedAfterCompleted = 0, openedBefore = -FAR,
  -- The limit that the upstream advertises, and what the last two responses named (src/quota/advertised-limit.ts). -1: none.
  advertised = -1, named1 = -1, named2 = -1,
  -- Cooldown: until, since which 429, and how long the next one without a Retry-After lasts (src/quota/slot-supply.ts).
  cooldownUntil = 0, throttledAt = -1, defaultCooldownMs = 10000,
  -- Membership: the time in which some replica was heard, and when that was last.
  attendedMs = 0, heardAt = 0,
  -- The latest end of a slot whose request has ended.
  heldUntil = -1,
  -- Recovery: nothing is admitted until; slots that others may hold, and of when that news is (-1: none); whether a
  -- replica that knows of others has joined, and one that knows what the minute before has used; until when slots may be
  -- held that no member knows of.
  closedUntil = 0, feared = 0, fearedAsOf = -1, informed = 0, minuteKnown = 0, orphansUntil = 0,
}
-- And by replica, `ticket:` and `inFlight:`, and `number:` of its latest completion; by tenant, `spent:`, `spentAt:` and
-- `rate:` of its bucket, its next `virtualTime:`, its `weight:`, its `bookings:` (JSON, see bookings.lua), and of a tenant with a
-- reservation the times at which its `admissions:` are a minute old (JSON). Texts are `members` (JSON), `stateId`, and `run` and
-- `node`, the server it was made on.

local STATE, SLOTS, QUEUE, DUE, COMPETING = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local REPLICA, TICKET = ARGV[2], ARGV[3]
local WINDOW, TOKEN, KEPT = 60000, 1000000, 900000
-- The caller's clock and the way here may differ by so much. Slots are held so much longer than a window.
local SLACK = 100
local LEASE = WINDOW + SLACK
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local request = cjson.decode(ARGV[5])
-- The stored numbers, as far as they were read.
local stored = {}

-- Reads more numbers into the state `s`.
local function fetch(s, names)
  local values = redis.call('HMGET', STATE, unpack(names))
  for i, name in ipairs(names) do
    stored[name] = tonumber(values[i])
    s[name] = stored[name] or DEFAULTS[name]
  end
  return s
end

-- The numbers of the state by name, with those of the replica.
local function load()
  local names = { 'inFlight:' .. REPLICA, 'number:' .. REPLICA }
  for name in pairs(DEFAULTS) do names[#names + 1] = name end
  return fetch({}, names)
end

-- Stores what has changed, in one command: a call has at most some hundred changes. Redis writes a number of Lua's so that
-- it comes back as it was, which `..` does not.
local function save(s)
  local changed = {}
  for name, value in pairs(s) do
    if value ~= stored[name] then
      changed[#changed + 1] = name
      changed[#changed + 1] = value
    end
  end
  if #changed > 0 then redis.call('HSET', STATE, unpack(changed)) end
  redis.call('PEXPIRE', STATE, KEPT)
  redis.call('PEXPIRE', SLOTS, KEPT)
end

local function reply(status, more)
  more = more or {}
  more.status = status
  return cjson.encode(more)
end

local function wall()
  if ARGV[1] ~= '' then return floor(tonumber(ARGV[1])) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end

local function discardState()
  redis.call('DEL', STATE, SLOTS, QUEUE, DUE, COMPETING, KEYS[6])
end

-- A server that removes keys when its memory is full may remove one of the two. What is left says too little: the replicas
-- make the state anew, as after the loss of both.
local function discardHalf()
  local found = redis.call('HMGET', STATE, 'heldUntil', 'offset')
  local heldUntil = tonumber(found[1]) or -1
  if heldUntil > wall() - (tonumber(found[2]) or 0) and redis.call('EXISTS', SLOTS) == 0 then
    discardState()
  end
end
discardHalf()

-- Time that neither goes back nor leaps, whatever the server's clock does. The caller knows by a clock of its own how late
-- it can be at most. If the server's is later, either the command was carried out late, or the clock was set forward: a
-- caller that is answered at once knows which, and comes back to have the leap taken out (`adopt`). Returns nil when it is
-- too late, else now.
local function tick(s, adopt)
  local at, latest = wall(), tonumber(ARGV[4])
  local now = at - s.offset
  local leapt = latest >= 0 and now > latest + SLACK
  if leapt and not adopt then return nil end
  -- The time since the latest command is not known, and taken as none: slots are rather held for too long.
  if leapt or now < s.time then now = s.time end
  s.time, s.offset = now, at - now
  return now
end

-- Frees the slots whose lease is over.
local function expire(now)
  redis.call('ZREMRANGEBYSCORE', SLOTS, '-inf', now)
end

-- Holds slots that are not in flight, until then.
local function hold(s, expiresAt, count)
  for _ = 1, count do
    s.everCompleted = s.everCompleted + 1
    redis.call('ZADD', SLOTS, expiresAt, s.everCompleted)
    s.heldUntil = max(s.heldUntil, expiresAt)
  end
end

local function refilled(elapsed, rate)
  return floor(elapsed * rate * 50 / 3)
end

-- Millionths missing from a bucket of which `spent` were missing at the time `at`.
local function spentOf(spent, at, rate, burst, now)
  return min(max(0, spent - refilled(max(0, now - at), rate)), burst * TOKEN)
end

local function waitFor(spent, tokens, rate, burst)
  local missing = spent - (burst - tokens) * TOKEN
  if missing <= 0 then return 0 end
  local ms = ceil(missing * 3 / (rate * 50))
  if refilled(ms, rate) < missing then return ms + 1 end
  return ms
end

-- The quota in force: the request has the configured one, and is changed to what a lower advertised limit leaves of it. See
-- src/quota/advertised-limit.ts.
local configured = { ceiling = request.ceiling, burst = request.burst, reservations = request.reservations }
local function scaleQuota(s)
  local function inProportion(count)
    if not request.adoptLimit or s.advertised < 0 or s.advertised >= request.limit then return count end
    return floor(count * s.advertised / request.limit)
  end
  request.ceiling, request.burst = max(1, inProportion(configured.ceiling)), max(1, inProportion(configured.burst))
  request.reservations = {}
  for i, reservation in ipairs(configured.reservations or {}) do
    request.reservations[i] = { reservation[1], inProportion(reservation[2]) }
  end
end

-- The account's bucket as of now. A new rate counts from now on: what was gained until now was gained at the old one. It gains
-- nothing while requests wait or are rejected.
local function refill(s, now)
  s.spentAt = max(s.spentAt, min(now, s.contendedUntil))
  local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  if s.rate ~= request.ceiling then s.spent, s.spentAt, s.rate, s.pacedAt = spent, now, request.ceiling, -FAR end
  return spent
end
