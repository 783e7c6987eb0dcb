-- For each of those who ask, in their order: a slot and the tokens for one request, or a refusal that spent nothing.
-- ARGV  5 cluster: 1 if this server is a node of one   6 who asks, a JSON list of
--       [tenant, empty for the gateway's own; rate, burst, weight; longest wait; ceiling, account burst; slots and tokens left to others]
-- Returns in JSON, a list for each: [1, now, ever answered, spent by the tenant] | [0, now, by, wait, spent]
--         | [-1] ticket unknown: enter first | [-2] too late, or the clock leapt | [-3, now, wait] recovering
-- In JSON both ways, because the client takes longer for the items of a command and of a reply than for all else about them.
local id, asks, replies = ARGV[2], cjson.decode(ARGV[6]), {}
local f = redis.call('HMGET', STATE, 'k:' .. id, 't', 'off', 'fl', 'st', 'n', 'hd', 'bs', 'ba', 'br', 'V', 'ln', 'gl', 'fo', 'fr',
  'fu', 'hu', 'rs', 'rn', 'ro', 'i:' .. id, 'node', 'b:' .. asks[1][1])
local known = f[1] == ARGV[3] and (ARGV[5] ~= '1' or f[22] == redis.call('CLUSTER', 'MYID'))
-- The state as those before in the list have left it. It is read once and written once, whoever asks.
local t, off, fl, st, n, hd = tonumber(f[2]), tonumber(f[3]), tonumber(f[4]), tonumber(f[5]), tonumber(f[6]), tonumber(f[7])
local bs, ba, br = tonumber(f[8]), tonumber(f[9]), tonumber(f[10])
local tagServed, lineMayBe, guarantees = num(f[11], 0), f[12] == '1', f[13] and f[13] ~= '' and f[13]
local fo, fr, fu, hu = num(f[14], 0), num(f[15], FAR), num(f[16], 0), num(f[17], 0)
local rs, rn, ro, mine = num(f[18], 0), num(f[19], 0), num(f[20], 0), num(f[21], 0)
local buckets, members, changed = { [asks[1][1]] = f[23] }, nil, {}

local function lease(now, spentByAll, burst)
  t, fl, mine, bs, ba = now, fl + 1, mine + 1, min(spentByAll + TOKEN, burst * TOKEN), now
  changed.t, changed.fl, changed['i:' .. id], changed.bs, changed.ba = t, fl, mine, bs, ba
end
local function putBucket(tenant, bucket)
  buckets[tenant], changed['b:' .. tenant] = bucket, bucket
end
local function putLine(maybe)
  lineMayBe, changed.ln = maybe, maybe and '1' or '0'
end

local function admit(ask)
  if not known then return { -1 } end
  local tenant, ceiling, burst = ask[1], ask[6], ask[7]
  local now, offNow = clock(t, off, tonumber(ARGV[4]))
  if not now then return { -2 } end
  if ro > now then return { -3, now, ro - now } end

  local reserved = rs
  if reserved > 0 or now >= rn then
    members = members or cjson.decode(redis.call('HGET', STATE, 'M'))
    if now >= rn then
      rs, rn = roster(members, now)
      changed.rs, changed.rn = rs, rn
    end
    -- Its own share is not kept from the one who asks: who asks does not work alone.
    reserved = roster(members, now, id)
  end

  -- What a refusal may write too: what time and the configuration have done, not what was asked.
  local hdBefore = hd
  hd, st = expire(now, hd, st)
  if hd ~= hdBefore or offNow ~= off then
    t, off = now, offNow
    changed.t, changed.off, changed.hd, changed.st = t, off, hd, st
  end
  local spentByAll = spentOf(bs, ba, br, burst, now)
  if br ~= ceiling then
    bs, ba, br = spentByAll, now, ceiling
    changed.bs, changed.ba, changed.br = bs, ba, br
  end

  local foreign, left, foreignFor = 0, FAR, 0
  if fu > now then foreign, left, foreignFor = fo, fr, fu - now end
  local holdFor = max(0, hu - now)
  local slots = ceiling - reserved - fl - st - foreign
  local crowded = fl >= left

  local entitled, guaranteed = false, false
  if guarantees then
    -- Admissions of a minute ago no longer count against a guarantee.
    local gh, present = num(redis.call('HGET', STATE, 'gh'), 0), floor(now / STEP)
    if gh <= present then
      if gh < present - 700 then gh = present - 700 end
      while gh <= present do
        local last, names = min(present, gh + 63), {}
        for step = gh, last do names[#names + 1] = 'g:' .. step end
        local used = redis.call('HMGET', STATE, unpack(names))
        for i = 1, #names do
          if used[i] then
            for who, count in string.gmatch(used[i], '([^ =]+)=(%d+)') do redis.call('HINCRBY', STATE, 'tu:' .. who, -count) end
            redis.call('HDEL', STATE, names[i])
          end
        end
        gh = last + 1
      end
      redis.call('HSET', STATE, 'gh', gh)
    end
    local names, kept = {}, {}
    for who, count in string.gmatch(guarantees, '([^ =]+)=(%d+)') do
      names[#names + 1] = 'tu:' .. who
      kept[#kept + 1] = { who, tonumber(count) }
    end
    local used = redis.call('HMGET', STATE, unpack(names))
    for i = 1, #kept do
      local rest = max(0, kept[i][2] - num(used[i], 0))
      if kept[i][1] == tenant then
        guaranteed, entitled = true, rest > 0
      else
        slots = slots - rest
      end
    end
  end

  -- Until `short` more slots are free.
  local function windowMs(short)
    if crowded then return foreignFor end
    local freed = 0
    if short > 0 then freed = freeIn(short, now, hd, st) end
    if foreign == 0 then return freed end
    return min(freed, foreignFor)
  end
  local function accountMs(places)
    local wait = 0
    if slots < places or crowded then wait = windowMs(places - slots) end
    return max(wait, waitFor(spentByAll, places, ceiling, burst))
  end
  if tenant == '' then
    local wait = holdFor
    if slots < 1 or crowded then wait = max(wait, windowMs(1 - slots)) end
    if wait > 0 then return { 0, now, holdFor > 0 and 'hold' or 'account', wait, 0 } end
    lease(now, spentByAll, burst)
    return { 1, now, n, 0 }
  end

  local rate, size, weight = ask[2], ask[3], ask[4]
  local spent, nextTag = 0, 0
  if buckets[tenant] == nil then buckets[tenant] = redis.call('HGET', STATE, 'b:' .. tenant) end
  if buckets[tenant] then
    local before, at, oldRate, tag = unpacked(buckets[tenant])
    spent, nextTag = spentOf(before, at, oldRate, size, now), tag
    -- A new rate counts from now on: what was gained until now was gained at the old one.
    if oldRate ~= rate then putBucket(tenant, packed(spent, now, rate, tag)) end
  end
  local tenantMs = waitFor(spent, 1, rate, size)
  if holdFor > 0 then return { 0, now, 'hold', max(holdFor, tenantMs), spent } end
  local inLine = lineMayBe
  if tenantMs > 0 then
    if inLine then
      redis.call('ZREM', LINE, tenant)
      redis.call('ZREM', DUE, tenant)
    end
    return { 0, now, 'tenant', max(tenantMs, accountMs(1)), spent }
  end

  local served = tagServed
  -- See src/quota/line.ts: the tag of who was away for a moment.
  local tag, ahead, standing = max(nextTag, served - 1 / weight), 0, false
  if inLine then
    local place = redis.call('ZSCORE', LINE, tenant)
    if place then tag, standing = tonumber(place), true end
    local lapsed = redis.call('ZRANGEBYSCORE', DUE, '-inf', '(' .. (now - GRACE))
    for i = 1, #lapsed, 1000 do
      local some = {}
      for j = i, min(#lapsed, i + 999) do
        some[#some + 1] = lapsed[j]
        if lapsed[j] == tenant then standing = false end
      end
      redis.call('ZREM', DUE, unpack(some))
      redis.call('ZREM', LINE, unpack(some))
    end
    local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', now + EARLY)
    for i = 1, #due, 1000 do
      local some = {}
      for j = i, min(#due, i + 999) do some[#some + 1] = due[j] end
      local tags = redis.call('ZMSCORE', LINE, unpack(some))
      -- Each takes as many as it may before its tag is no longer lower.
      for j = 1, #some do
        local its = tonumber(tags[j] or tag)
        if its < tag then ahead = ahead + math.ceil(tag - its) end
      end
    end
    if #due == 0 and redis.call('EXISTS', DUE) == 0 then putLine(false) end
  end

  local available = 0
  if not crowded then available = min(slots, floor((burst * TOKEN - spentByAll) / TOKEN)) - ask[8] end
  if available < 1 or (available <= ahead and not entitled) then
    local places = 1
    if inLine then places = redis.call('ZCOUNT', LINE, '-inf', '(' .. string.format('%.17g', tag)) + 1 end
    local wait = max(accountMs(places), 1)
    if wait <= ask[5] then
      -- Rounded to 17 digits: a tag that came back shorter would be another one.
      redis.call('ZADD', LINE, string.format('%.17g', tag), tenant)
      redis.call('ZADD', DUE, now + wait, tenant)
      redis.call('PEXPIRE', LINE, 900000)
      redis.call('PEXPIRE', DUE, 900000)
      putLine(true)
    end
    return { 0, now, 'account', wait, spent }
  end

  if standing then
    redis.call('ZREM', LINE, tenant)
    redis.call('ZREM', DUE, tenant)
  end
  -- Whoever is let past others who wait must not take the time with it: they would lose what they are behind.
  local lowest = tag
  if inLine then
    local first = redis.call('ZRANGE', LINE, 0, 0, 'WITHSCORES')
    if first[2] then lowest = min(tag, tonumber(first[2])) end
  end
  spent = min(spent + TOKEN, size * TOKEN)
  lease(now, spentByAll, burst)
  tagServed = max(served, lowest)
  changed.V = tagServed
  putBucket(tenant, packed(spent, now, rate, tag + 1 / weight))
  if guaranteed then
    local step = 'g:' .. stepAfterWindow(now)
    local before = redis.call('HGET', STATE, step)
    redis.call('HSET', STATE, step, (before and before .. ' ' or '') .. tenant .. '=1')
    redis.call('HINCRBY', STATE, 'tu:' .. tenant, 1)
  end
  return { 1, now, n, spent }
end

for i = 1, #asks do replies[i] = admit(asks[i]) end
if next(changed) then
  local fields = {}
  for name, value in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('HSET', STATE, unpack(fields))
end
return cjson.encode(replies)
