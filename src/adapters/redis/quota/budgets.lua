-- The counts of budgets, after common.lua in the scripts that need them. src/quota/budgets.ts has the terms. Counts belong to
-- the calendar, not to the state: they stay when the state is made anew.
--
-- KEYS  6 changes: `label field` of each count by the number of its latest change   7 and more: a hash of counts for each label
-- Request  budgets, absent where the account has none: labels: [[label, ms to keep its counts], …] in the order of the keys;
--          lost: numbers of calls to `admit` whose reply did not come; open: of those that are under way
-- A count has two fields, of which each only grows: `field`, what was charged, and `field!`, what was refunded. A charge is
-- [index of its label, field, limit], with -1 for no limit.
-- In the state are, as JSON, `counted`: the labels with counts, each with the time at which they are of no use any more;
-- `unanswered:` of each replica: what its latest calls have charged; `entered:` of each replica, see join.lua.
local CHANGES = KEYS[6]
local budgets = request.budgets or { labels = {}, lost = {}, open = {} }
local indexOf = {}
for i, label in ipairs(budgets.labels) do indexOf[label[1]] = i end
local touched, counted = {}, nil

local function countsKey(i) return KEYS[6 + i] end

local function countedLabels()
  counted = counted or cjson.decode(redis.call('HGET', STATE, 'counted') or '{}')
  return counted
end

-- A server that removes keys when its memory is full may remove counts. The replicas make the state anew with what they know.
local function discardWithoutCounts()
  for i, label in ipairs(budgets.labels) do
    if countedLabels()[label[1]] and redis.call('EXISTS', countsKey(i)) == 0 then
      counted = nil
      return discardState()
    end
  end
end
discardWithoutCounts()

local function countOf(i, field)
  local found = redis.call('HMGET', countsKey(i), field, field .. '!')
  return tonumber(found[1]) or 0, tonumber(found[2]) or 0
end

-- After a change of a count.
local function changed(s, now, i, field)
  local label, keptMs = budgets.labels[i][1], budgets.labels[i][2]
  s.changes = s.changes + 1
  redis.call('ZADD', CHANGES, s.changes, label .. ' ' .. field)
  redis.call('PEXPIRE', CHANGES, KEPT)
  redis.call('PEXPIRE', countsKey(i), keptMs)
  touched[label .. ' ' .. field] = { i, field }
  if countedLabels()[label] then return end
  local kept = { [label] = now + keptMs }
  for other, last in pairs(counted) do
    if last > now then kept[other] = last end
  end
  counted = kept
  redis.call('HSET', STATE, 'counted', cjson.encode(kept))
  for _, change in ipairs(redis.call('ZRANGE', CHANGES, 0, -1)) do
    if not kept[string.match(change, '^%S+')] then redis.call('ZREM', CHANGES, change) end
  end
end

-- The number of the first charge whose limit is reached.
local function exhausted(charges)
  for n, charge in ipairs(charges or {}) do
    local i, field, limit = charge[1], charge[2], charge[3]
    touched[budgets.labels[i][1] .. ' ' .. field] = { i, field }
    local charged, refunded = countOf(i, field)
    if limit >= 0 and charged - refunded >= limit then return n end
  end
end

local function chargeAll(s, now, charges)
  for _, charge in ipairs(charges or {}) do
    redis.call('HINCRBY', countsKey(charge[1]), charge[2], 1)
    changed(s, now, charge[1], charge[2])
  end
end

-- The counts of a period that is over are of no use.
local function refundCount(s, now, label, field)
  local i = indexOf[label]
  if not i then return end
  redis.call('HINCRBY', countsKey(i), field .. '!', 1)
  changed(s, now, i, field)
end

local function contains(list, number)
  for _, each in ipairs(list) do
    if each == number then return true end
  end
  return false
end

-- A call whose reply did not come may have been carried out all the same: what it has charged was not sent. Returns the calls
-- that are still under way.
local function settle(s, now)
  if not request.budgets then return {} end
  local name, open = 'unanswered:' .. REPLICA, {}
  local text = redis.call('HGET', STATE, name)
  if not text then return open end
  for _, call in ipairs(cjson.decode(text)) do
    if contains(budgets.lost, call.number) then
      for _, charge in ipairs(call.charges) do refundCount(s, now, charge[1], charge[2]) end
    elseif contains(budgets.open, call.number) then
      open[#open + 1] = call
    end
  end
  if #open > 0 then redis.call('HSET', STATE, name, cjson.encode(open)) else redis.call('HDEL', STATE, name) end
  return open
end

-- Remembers what this call has charged, until the replica has its reply.
local function remember(open, number, charges)
  if #charges == 0 then return end
  open[#open + 1] = { number = number, charges = charges }
  redis.call('HSET', STATE, 'unanswered:' .. REPLICA, cjson.encode(open))
end

local function reading(counts, i, field)
  local charged, refunded = countOf(i, field)
  counts[#counts + 1] = { i, field, charged, refunded }
end

-- For the replica: the counts that this call has looked at, those that changed after `since`, or all of them. An empty list
-- would become an object.
local function readTouched()
  local counts = {}
  for _, each in pairs(touched) do reading(counts, each[1], each[2]) end
  return #counts > 0 and counts or nil
end

local function readSince(since)
  local counts = {}
  for _, change in ipairs(redis.call('ZRANGEBYSCORE', CHANGES, '(' .. since, '+inf')) do
    local label, field = string.match(change, '^(%S+) (%S+)$')
    if indexOf[label] then reading(counts, indexOf[label], field) end
  end
  return #counts > 0 and counts or nil
end

local function readAll()
  local counts = {}
  for i in ipairs(budgets.labels) do
    for _, field in ipairs(redis.call('HKEYS', countsKey(i))) do
      if string.sub(field, -1) ~= '!' then reading(counts, i, field) end
    end
  end
  return #counts > 0 and counts or nil
end
