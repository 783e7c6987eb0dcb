-- How requests ended, in the order of one replica: each completion has a number, and is taken in once however often it is
-- sent. In front of the scripts that take them in.
-- Request  first: number of the first of them   limit, adoptLimit, ceiling, burst, coldStart   completions, each of a `kind`:
--          response: admittedAt, completedBefore, freedBefore; limit and remaining if the response named them; throttled if it
--                    was a 429, with retryAfterMs if it named one
--          lost: no response, and the request cannot arrive any more   refund: it never left; tenant and its burst,
--          and charges, [[label, field], …], if it counted against budgets
-- @return the number of the last that was taken in
local function takeIn(s, now)
  local mine, number = 'inFlight:' .. REPLICA, 'number:' .. REPLICA

  local function forgetExternal()
    s.external, s.remaining, s.externalUntil = 0, FAR, -1
  end

  -- A changed limit counts once three responses in a row name one: see src/quota/advertised-limit.ts.
  local function advertise(named)
    local a, b = s.named1, s.named2
    s.named1, s.named2 = b, named or -1
    if not named or a < 0 or b < 0 then return end
    local current = s.advertised < 0 and request.limit or s.advertised
    local next = min(max(current, min(a, b, named)), max(a, b, named))
    if next == s.advertised then return end
    s.advertised = next
    scaleQuota(s)
    refill(s, now)
  end

  -- See src/quota/advertised-limit.ts. The request's own slot is still in flight here.
  local function observe(seen)
    if seen.admittedAt > s.peakSeenAt and seen.used <= s.peakUsed then
      s.openedAfterCompleted, s.openedBefore, s.peakUsed = s.peakCompletedBefore, now, 0
      forgetExternal()
    end
    if seen.used >= s.peakUsed or now - s.peakAdmittedAt > WINDOW then
      s.peakUsed, s.peakAdmittedAt, s.peakCompletedBefore, s.peakSeenAt = seen.used, seen.admittedAt, seen.completedBefore, now
    end
    if now >= s.externalUntil then forgetExternal() end
    local admitted = s.inFlight + s.everCompleted
    local own = max(s.inFlight + redis.call('ZCARD', SLOTS), admitted - seen.freedBefore)
    if seen.admittedAt >= s.openedBefore then own = min(admitted - s.openedAfterCompleted, own) end
    -- Requests that are still in flight beside the first response may not be counted in it.
    if s.primed == 0 then own = min(own, s.everCompleted + 1) end
    local external = max(0, seen.used - own)
    if external == 0 and s.external == 0 then return end
    s.remaining = min(s.remaining, seen.remaining)
    if external >= s.external then s.external, s.externalUntil = external, now + WINDOW end
  end

  -- A response shows what the minute before has left, or does not say so: then the account is taken for idle.
  local function prime(used)
    if s.primed == 1 then return end
    if not used and request.coldStart == 'wait' and s.minuteKnown == 0 then
      s.external, s.externalUntil = request.ceiling, s.startedAt + LEASE
    end
    s.spent, s.spentAt, s.primed, s.pacedAt = 0, max(s.spentAt, now), 1, -FAR
  end

  -- See src/quota/slot-supply.ts.
  local function cool(throttled, admittedAt)
    local retryAfterMs = throttled.retryAfterMs
    local ms = min(retryAfterMs or 0, 3600000)
    if ms < 1000 then
      if s.throttledAt ~= -1 and admittedAt > s.throttledAt then s.defaultCooldownMs = min(s.defaultCooldownMs * 2, 60000) end
      ms = retryAfterMs and s.defaultCooldownMs / 10 or s.defaultCooldownMs
    end
    s.throttledAt, s.cooldownUntil = now, max(s.cooldownUntil, now + ms)
  end

  local function respond(seen)
    advertise(seen.limit)
    local limit = (not request.adoptLimit or s.advertised < 0) and request.limit or s.advertised
    local isOurs = not seen.limit or seen.limit == limit
    if isOurs and seen.remaining and seen.remaining <= limit then
      seen.used = limit - seen.remaining
      local before = now < s.externalUntil and s.external or 0
      observe(seen)
      if (now < s.externalUntil and s.external or 0) ~= before then s.pacedAt = -FAR end
    end
    prime(seen.used)
    if seen.throttled then
      cool(seen.throttled, seen.admittedAt)
    elseif seen.admittedAt > s.throttledAt then
      s.defaultCooldownMs, s.throttledAt = 10000, -1
    end
  end

  local function refund(tenant, burst)
    s.spent, s.spentAt = max(0, refill(s, now) - TOKEN), now
    s.paidUntil, s.headroom = s.paidUntil - 1 / s.pace, s.headroom + 1
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
        for _, charge in ipairs(completion.charges or {}) do refundCount(s, now, charge[1], charge[2]) end
      else
        hold(s, now + LEASE, 1)
      end
    end
  end
  return s[number] or 0
end
