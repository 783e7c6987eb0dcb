-- A replica says that it is there, corrects what it has in flight, and learns how the account stands.
-- Request  inFlight: of its slots, those whose end was not taken in yet included   confirmedAt: the latest time at which it
--          knows that it was heard   share: which it believes in   mode: local or closed   limit, adoptLimit, ceiling, burst   maxInFlightMs:
--          how long a request can be under way   graceMs: see `bury`   adopt: the clock leapt
--          leavingMs: it leaves, and what it cut off may arrive for so long
--          budgets: see budgets.lua; and seen: number of the latest change of a count that it knows
-- Reply    see `snapshot` | unknown | late
local s = load()
local found = redis.call('HMGET', STATE, 'ticket:' .. REPLICA, 'members', 'stateId')
if found[1] ~= TICKET then return reply('unknown') end
local now = tick(s, request.adopt)
if not now then return reply('late') end
scaleQuota(s)
expire(now)
local members, mine = cjson.decode(found[2]), 'inFlight:' .. REPLICA

s.inFlight = s.inFlight + request.inFlight - (s[mine] or 0)
s[mine] = request.inFlight
attend(s, now)
local member = members[REPLICA]
member.confirmedAt = max(member.confirmedAt, request.confirmedAt)
member.share, member.mode, member.maxInFlightMs = request.share, request.mode, request.maxInFlightMs
member.attendedMs, member.gone = s.attendedMs, nil
if member.sent and member.sent.asOf == request.confirmedAt then member.basis = member.sent end
if request.leavingMs then
  local expiresAt = now + request.leavingMs + LEASE
  hold(s, expiresAt, request.inFlight)
  s.inFlight, s.orphansUntil = s.inFlight - request.inFlight, max(s.orphansUntil, expiresAt)
  forget(s, members, REPLICA)
end
bury(s, members, now, request.graceMs)
promise(members, now, request.ceiling)

refill(s, now)
settle(s, now)
redis.call('HSET', STATE, 'members', cjson.encode(members))
save(s)
return snapshot(s, members, now, found[3], budgets.seen and readSince(budgets.seen))
