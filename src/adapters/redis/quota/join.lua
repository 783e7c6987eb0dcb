-- A replica joins, or comes back: with all slots it still holds, whatever this server knows of them. On a server that is
-- new, or that may have lost the latest (another process, another node), the state is made anew from what the replicas
-- know; nothing is admitted until all that are known of have joined, or have had the time to.
-- Request  process: tells it from one before it that had the same name   ticket: to be given to it   cluster   adopt
--          stateId: the state whose time it knows   othersComeMs: time for others to join a new state
--          inFlight   first, heldForMs: of its completions, the number of the first, and the ms each is held for (-1: it is
--          not)   last: number of its latest   cooldownMs   advertised: limit of the upstream, if it knows
--          mode, share, limit, adoptLimit, ceiling, burst, maxInFlightMs
--          news: see `newsOf` in fallback.ts; absent if it knows nothing
--          known: of its slots, those that the state of the news knew too: stateId; slots, [since when, the ms for which it is
--          held], -1: in flight
--          budgets: see budgets.lua; and counts: [[index of the label, field, charged, refunded, sent without Redis], …], as the
--          replica has seen them; entry: names the time without Redis in which the last were sent; refunds: [number, label, field]
--          of completions that may not have arrived
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

-- Counts are never lower than the greatest that a replica has seen. What replicas have sent without Redis is added once, on top of
-- what all of them had seen before: while a state made anew waits for them, `entered` of each count is what was added.
local function enterCounts(s, now)
  if not request.budgets then return end
  local name, recovering = 'entered:' .. REPLICA, s.closedUntil > now
  local mine = cjson.decode(redis.call('HGET', STATE, name) or '{}')
  if mine.entry ~= budgets.entry then mine = { entry = budgets.entry, of = {} } end
  local all = recovering and cjson.decode(redis.call('HGET', STATE, 'entered') or '{}') or {}
  for _, each in ipairs(budgets.counts or {}) do
    local i, field, seen, seenRefunded, alone = each[1], each[2], each[3], each[4], each[5]
    local count = budgets.labels[i][1] .. ' ' .. field
    local charged, refunded = countOf(i, field)
    local before, more = all[count] or 0, max(0, alone - (mine.of[count] or 0))
    local total = max(charged - before, seen) + before + more
    mine.of[count], all[count] = max(alone, mine.of[count] or 0), before + more
    if total ~= charged or seenRefunded > refunded then
      redis.call('HSET', countsKey(i), field, total, field .. '!', max(refunded, seenRefunded))
      changed(s, now, i, field)
    end
  end
  if next(mine.of) then redis.call('HSET', STATE, name, cjson.encode(mine)) end
  if recovering and next(all) then redis.call('HSET', STATE, 'entered', cjson.encode(all)) end
  if not recovering then redis.call('HDEL', STATE, 'entered') end
end

if fresh then
  discardState()
  counted = nil
  s, stored, now, stateId = {}, {}, wall(), ticket
  for name, value in pairs(DEFAULTS) do s[name] = value end
  s.time, s.startedAt, s.closedUntil = now, now, now + request.othersComeMs
  s.spent, s.spentAt, s.rate, s.paidUntil = request.burst * TOKEN, now, request.ceiling, now - WINDOW
  -- For an account that no upstream counts.
  if request.coldStart == 'idle' then s.spent, s.primed = 0, 1 end
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
-- A lower limit that a replica has learned alone counts: the next responses say so if it has risen since.
if request.advertised and (s.advertised < 0 or request.advertised < s.advertised) then s.advertised = request.advertised end
scaleQuota(s)
refill(s, now)

-- The replica knows that it was heard only once it has this reply: until its first heartbeat it counts as silent.
local member = members[REPLICA] or { confirmedAt = 0, share = 0, promised = 0, process = request.process }
if member.process and member.process ~= request.process then
  if now <= member.confirmedAt + SILENT then
    -- Time goes on from here, should no other replica be there.
    redis.call('HSET', STATE, 'time', s.time, 'offset', s.offset)
    return reply('nameTaken')
  end
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
for _, refund in ipairs(fresh and {} or budgets.refunds or {}) do
  -- A refund that a lost state may have known is not repeated: the count is rather too high.
  if refund[1] > (s[number] or 0) then refundCount(s, now, refund[2], refund[3]) end
end
s[mine], s[number] = request.inFlight, request.last
settle(s, now)
enterCounts(s, now)
if request.cooldownMs > 0 then s.cooldownUntil = max(s.cooldownUntil, now + request.cooldownMs) end

local function forgetFeared()
  for i = 1, s.feared do redis.call('ZREM', SLOTS, 'feared:' .. i) end
  s.feared = 0
end

local function fearUntil(expiresAt, count)
  for _ = 1, expiresAt > now and count or 0 do
    s.feared = s.feared + 1
    redis.call('ZADD', SLOTS, expiresAt, 'feared:' .. s.feared)
  end
end

-- Takes the slots that a replica has entered again out of those that the news has as completed. What it entered and the state
-- before knew by then was completed there, or in flight; and completions are taken in in their order. For each of them a slot goes
-- that is not free later: docs/decisions/0006.
local function takeOut(completed, slots, asOf, inFlight)
  local times = {}
  for _, slot in ipairs(slots) do
    if slot[1] < asOf then times[#times + 1] = slot[2] end
  end
  table.sort(times)
  for i = 1, #times - inFlight do
    local latest
    for _, each in ipairs(completed) do
      if each[1] > times[i] - 2 * SLACK then break end
      if each[2] > 0 then latest = each end
    end
    if times[i] < FAR and latest then latest[2] = latest[2] - 1 end
  end
end

-- The most that the state before can have given out after the news: until this one was made, and until one was silent.
local function givenAfter(news, asOf)
  local forMs = min(news.givenForMs, s.startedAt - asOf)
  if forMs <= 0 then return 0 end
  local held = 0
  for _, mate in pairs(news.mates) do held = held + mate.inFlight end
  for _, each in ipairs(news.completed) do
    if each[1] > asOf + forMs then held = held + each[2] end
  end
  return max(0, min(news.atOnce + ceil(request.ceiling * forMs / WINDOW), request.ceiling - held))
end

local function fieldsOf(news)
  local fields, ids = {}, {}
  for id in pairs(news.mates) do
    ids[#ids + 1], fields[#fields + 1] = id, 'known:' .. id
  end
  return fields, ids
end

-- Holds what the news says of replicas that have not joined since. Returns whether there are none, as a process that has another's
-- name does not know what that one held; and whether one has entered slots at a time that is not known.
local function fear(news)
  forgetFeared()
  local fields, ids = fieldsOf(news)
  local texts, isWhole = #fields > 0 and redis.call('HMGET', STATE, unpack(fields)) or {}, true
  local isLate = false
  for i, id in ipairs(ids) do
    local known = texts[i] and cjson.decode(texts[i])
    if not known or known.stateId ~= news.stateId then
      isWhole = false
      fearUntil(news.inFlightUntil, news.mates[id].inFlight)
    elseif known.late then
      isLate = true
    else
      takeOut(news.completed, known.slots, news.asOf, news.mates[id].inFlight)
    end
  end
  for _, each in ipairs(news.completed) do fearUntil(each[1], each[2]) end
  if not isWhole then fearUntil(news.givenUntil, news.given) end
  return isWhole, isLate
end

-- Takes over the replica's news of the others.
local function learn(news, latest)
  s.informed = 1
  if news.primed then s.minuteKnown = 1 end
  if s.closedUntil > now then
    for id, mate in pairs(news.mates) do
      if mate.share and not members[id] then expect(id, nil, mate.share) end
    end
  end
  -- Members of a copy count only if living replicas know them.
  for id, other in pairs(members) do
    local mate = news.mates[id]
    if other.expected and other.fromCopy and not (mate and mate.share) then members[id] = nil end
  end
  if news.orphans then s.orphansUntil = max(s.orphansUntil, now + LEASE) end
  local asOf = now - news.ageMs
  local isLater = asOf > s.fearedAsOf
  -- The command that brought them first may have been late.
  if latest and latest.stateId == news.stateId then isLater = news.asOf >= latest.asOf end
  if not isLater then return latest end
  s.fearedAsOf = max(0, asOf)
  for id, mate in pairs(news.mates) do
    local other, basis = members[id], mate.basis
    if other and other.expected and basis then
      other.basis = { asOf = asOf - basis.ageMs, reserved = 0, replicas = basis.replicas }
      other.sent = other.basis
    end
  end
  for _, each in ipairs(news.completed) do each[1] = now + each[1] end
  news.given = givenAfter(news, asOf)
  news.inFlightUntil, news.givenUntil = now + news.inFlightMs, now + news.givenMs
  redis.call('HSET', STATE, 'news', cjson.encode(news))
  return news
end

-- This replica's slots are not to be held a second time. The time is not known here if the state was made just now.
local function note(known)
  for _, slot in ipairs(known.slots) do slot[2] = slot[2] < 0 and FAR or now + slot[2] end
  known.late = fresh
  redis.call('HSET', STATE, 'known:' .. REPLICA, cjson.encode(known))
end

if s.closedUntil > now or s.fearedAsOf >= 0 then
  local text = redis.call('HGET', STATE, 'news')
  local news, isWhole, isLate, missing = text and cjson.decode(text), true, false, false
  if request.known and request.known.stateId ~= stateId then note(request.known) end
  if request.news and request.news.stateId ~= stateId then news = learn(request.news, news) end
  if news then isWhole, isLate = fear(news) end
  for _, other in pairs(members) do missing = missing or (other.expected and not other.gone) or false end
  -- It comes once more, in half a second.
  local mayOpen = isWhole or not isLate or s.closedUntil <= now
  if not missing and mayOpen and s.informed == 1 then
    -- All are here with what they hold: what was feared of them is known now. What stays is of no member, and a state after
    -- this one has to hold it as well.
    if isWhole and s.orphansUntil <= now then
      forgetFeared()
    else
      s.orphansUntil = max(s.orphansUntil, tonumber(redis.call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')[2] or 0))
    end
    s.feared, s.fearedAsOf, s.closedUntil = 0, -1, 0
    if news then redis.call('HDEL', STATE, 'news', unpack((fieldsOf(news)))) end
  end
end

promise(members, now, request.ceiling)
redis.call('HSET', STATE, 'members', cjson.encode(members), 'ticket:' .. REPLICA, ticket)
save(s)
return snapshot(s, members, now, stateId, readAll())
