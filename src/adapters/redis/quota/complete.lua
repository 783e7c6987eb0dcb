-- How requests ended, in the order of one replica: each completion has a number, and is taken in once however often it is
-- sent.
-- Request  first: number of the first of them   ceiling, burst   completions, each of a `kind`:
--          response: admittedAt, completedBefore; used and remaining if the response told; throttled if it was a 429, with
--                    retryAfterMs if that told
--          lost: no response, and the request cannot arrive any more   refund: it never left; tenant and its burst
-- Reply    last: number of the last that was taken in | unknown | late
local s = load()
if redis.call('HGET', STATE, 'ticket:' .. REPLICA) ~= TICKET then return reply('unknown') end
local now = tick(s)
if not now then return reply('late') end
expire(now)
local mine, number = 'inFlight:' .. REPLICA, 'number:' .. REPLICA

local function forgetExternal()
  s.external, s.remaining, s.externalUntil = 0, FAR, -1
end

-- See src/quota/external-usage.ts. The request's own slot is still in flight here.
local function observe(seen)
  if seen.admittedAt > s.peakSeenAt and seen.used <= s.peakUsed then
    s.openedAfterCompleted, s.openedBefore, s.peakUsed = s.peakCompletedBefore, now, 0
    forgetExternal()
  end
  if seen.used >= s.peakUsed or now - s.peakAdmittedAt > WINDOW then
    s.peakUsed, s.peakAdmittedAt, s.peakCompletedBefore, s.peakSeenAt = seen.used, seen.admittedAt, seen.completedBefore, now
  end
  if now >= s.externalUntil then forgetExternal() end
  local own = s.inFlight + redis.call('ZCARD', SLOTS)
  if seen.admittedAt >= s.openedBefore then own = min(s.inFlight + s.everCompleted - s.openedAfterCompleted, own) end
  local external = max(0, seen.used - own)
  if external == 0 and s.external == 0 then return end
  s.remaining = min(s.remaining, seen.remaining)
  if external >= s.external then s.external, s.externalUntil = external, now + WINDOW end
end

-- The first response of a state fills the account's bucket with what the minute before has not used.
local function prime(seen)
  if s.primed == 1 then return end
  local tokens = max(0, min(request.ceiling - seen.used, request.burst))
  local spent = spentOf(s.spent, s.spentAt, s.rate, request.burst, now)
  s.spent, s.spentAt, s.primed = min(spent, (request.burst - tokens) * TOKEN), now, 1
end

-- See src/quota/cooldown.ts.
local function cool(throttled, admittedAt)
  local told = throttled.retryAfterMs
  local ms = min(told or 0, 3600000)
  if ms < 1000 then
    if s.throttledAt ~= -1 and admittedAt > s.throttledAt then s.untoldMs = min(s.untoldMs * 2, 60000) end
    ms = told and s.untoldMs / 10 or s.untoldMs
  end
  s.throttledAt, s.cooldownUntil = now, max(s.cooldownUntil, now + ms)
end

local function respond(seen)
  if seen.used then
    observe(seen)
    prime(seen)
  end
  if seen.throttled then
    cool(seen.throttled, seen.admittedAt)
  elseif seen.admittedAt > s.throttledAt then
    s.untoldMs, s.throttledAt = 10000, -1
  end
end

local function refund(tenant, burst)
  s.spent, s.spentAt = max(0, spentOf(s.spent, s.spentAt, s.rate, request.burst, now) - TOKEN), now
  if not tenant then return end
  local spent, at, rate = 'spent:' .. tenant, 'spentAt:' .. tenant, 'rate:' .. tenant
  fetch(s, { spent, at, rate })
  if s[spent] then s[spent], s[at] = max(0, spentOf(s[spent], s[at], s[rate], burst, now) - TOKEN), now end
end

for i, completion in ipairs(request.completions) do
  if request.first + i - 1 > (s[number] or 0) then
    s[number] = request.first + i - 1
    if completion.kind == 'response' then respond(completion) end
    s.inFlight, s[mine] = s.inFlight - 1, (s[mine] or 0) - 1
    if completion.kind == 'refund' then
      refund(completion.tenant, completion.burst)
    else
      hold(s, now + LEASE, 1)
    end
  end
end
save(s)
return reply('ok', { now = now, last = s[number] or 0 })
