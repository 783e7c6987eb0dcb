-- A replica joins, or comes back: with all slots it still holds, whatever this server knows of them. On a server that is
-- new, or that may have lost the latest (another process, another node), the state is made anew from what the replicas
-- know; nothing is admitted until all that are known of have joined, or have had the time to.
-- Request  process: tells it from one before it that had the same name   ticket: to be given to it   cluster   adopt
--          stateId: the state whose time it knows   othersComeMs: time for others to join a new state
--          inFlight   first, heldForMs: of its completions, the number of the first, and the ms each is held for (-1: it is
--          not)   last: number of its latest   cooldownMs   mode, share, ceiling, burst, maxInFlightMs
--          news: of the others, absent if it knows nothing: ageMs; shares by replica; feared: slots that others may hold,
--          [[ms, slots], …]; orphans: some belong to no living replica; primed: the state before this one was
-- Reply    see `snapshot` | late | nameTaken: another process of this name is there
--          | unfamiliar: now and stateId, of a state that the caller does not know
local ticket, mine, number = request.ticket, 'inFlight:' .. REPLICA, 'number:' .. REPLICA
local s, now, stateId = load(), nil, nil
local found = redis.call('HMGET', STATE, 'run', 'node', 'stateId', 'members')
-- A server that becomes a master again, perhaps with what it had before, has another id of its replication.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local node = request.cluster and redis.call('CLUSTER', 'MYID') or ''
local members = cjson.decode(found[4] or '{}')
local fresh = found[1] ~= run or found[2] ~= node

-- A replica that has to be here, or have had the time to come, before anything is admitted.
local function expect(id, member, share)
  members[id] = {
    confirmedAt = now - SILENT - 1, share = member and max(member.share, member.promised) or share, promised = 0,
    maxInFlightMs = request.maxInFlightMs, attendedMs = s.attendedMs, mode = member and member.mode or request.mode,
    expected = true, fromCopy = member ~= nil,
  }
end

if fresh then
  redis.call('DEL', unpack(KEYS))
  s, stored, now, stateId = {}, {}, wall(), ticket
  for name, value in pairs(DEFAULTS) do s[name] = value end
  s.time, s.startedAt, s.closedUntil = now, now, now + request.othersComeMs
  s.spent, s.spentAt, s.rate, s.paidUntil = request.burst * TOKEN, now, request.ceiling, now - WINDOW
  local before = members
  members = {}
  for id, member in pairs(before) do
    if not member.gone then expect(id, member) end
  end
  redis.call('HSET', STATE, 'stateId', stateId, 'run', run, 'node', node)
else
  stateId = found[3]
  if (tonumber(ARGV[4]) < 0 or stateId ~= request.stateId) and next(members) ~= nil then
    -- A newcomer, or one that knows the time of another state, cannot tell whether the clock leapt. It learns the time of
    -- the latest command, and joins again.
    return reply('unfamiliar', { now = s.time, stateId = stateId })
  end
  now = tick(s, request.adopt)
  if not now then return reply('late') end
  expire(now)
  attend(s, now)
end
s.heardAt = now

-- The replica knows that it was heard only once it has this reply: until its first heartbeat it counts as silent.
local member = members[REPLICA] or { confirmedAt = 0, share = 0, promised = 0, process = request.process }
if member.process and member.process ~= request.process then
  if now <= member.confirmedAt + SILENT then return reply('nameTaken') end
  -- The process that had this name is gone: a name is a host and a port, and the port was free. What it had in flight may
  -- still be on its way.
  local left, expiresAt = s[mine] or 0, now + request.maxInFlightMs + LEASE
  hold(s, expiresAt, left)
  s.inFlight, s.orphansUntil = s.inFlight - left, max(s.orphansUntil, expiresAt)
  s[mine], s[number], member.share, member.promised, member.confirmedAt = 0, 0, 0, 0, 0
end
if fresh then member.share, member.promised = 0, 0 end
members[REPLICA] = {
  process = request.process, mode = request.mode, maxInFlightMs = request.maxInFlightMs, attendedMs = s.attendedMs,
  share = max(request.share, member.share, member.promised), promised = 0,
  confirmedAt = max(member.confirmedAt, now - SILENT - 1),
}

-- Its slots: those in flight anew, and of the completed ones those that are not known yet.
s.inFlight = s.inFlight + request.inFlight - (s[mine] or 0)
for i, heldForMs in ipairs(request.heldForMs) do
  if request.first + i - 1 > (s[number] or 0) and heldForMs >= 0 then hold(s, now + heldForMs, 1) end
end
s[mine], s[number] = request.inFlight, request.last
if request.cooldownMs > 0 then s.cooldownUntil = max(s.cooldownUntil, now + request.cooldownMs) end

local function forgetFeared()
  for i = 1, s.feared do redis.call('ZREM', SLOTS, 'feared:' .. i) end
  s.feared = 0
end

-- Takes over the replica's news of the others.
local function learn(news)
  s.informed = 1
  if news.primed then s.minuteKnown = 1 end
  if s.closedUntil > now then
    for id, share in pairs(news.shares) do
      if not members[id] then expect(id, nil, share) end
    end
  end
  -- Members of a copy count only if living replicas know them.
  for id, other in pairs(members) do
    if other.expected and other.fromCopy and not news.shares[id] then members[id] = nil end
  end
  if now - news.ageMs > s.fearedAsOf then
    forgetFeared()
    s.fearedAsOf = max(0, now - news.ageMs)
    for _, each in ipairs(news.feared) do
      for _ = 1, each[2] do
        s.feared = s.feared + 1
        redis.call('ZADD', SLOTS, now + each[1], 'feared:' .. s.feared)
      end
    end
  end
  if news.orphans then s.orphansUntil = max(s.orphansUntil, now + LEASE) end
end

if s.closedUntil > now or s.fearedAsOf >= 0 then
  if request.news then learn(request.news) end
  local missing = false
  for _, other in pairs(members) do missing = missing or (other.expected and not other.gone) or false end
  if not missing and s.informed == 1 then
    -- All are here with what they hold: what was feared of them is known now.
    if s.orphansUntil <= now then forgetFeared() end
    s.feared, s.fearedAsOf, s.closedUntil = 0, -1, 0
  end
end

promise(members, now, request.ceiling)
redis.call('HSET', STATE, 'members', cjson.encode(members), 'ticket:' .. REPLICA, ticket)
save(s)
return snapshot(s, members, now, stateId)
