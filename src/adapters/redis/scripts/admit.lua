-- For each of those who ask, in their order: a slot and the tokens for one request, or a refusal that spent nothing.
-- ARGV  5 cluster: 1 if this server is a node of one   6 who asks, a JSON list of
--       [tenant, empty for the gateway's own; rate, burst, weight; longest wait; ceiling, account burst; slots and tokens left to others]
-- Returns in JSON, a list for each: [1, now, ever answered, spent by the tenant] | [0, now, by, wait, spent]
--         | [-1] ticket unknown: enter first | [-2] too late, or the clock leapt | [-3, now, wait] recovering
-- In JSON both ways, because the client takes longer for the items of a command and of a reply than for all else about them.
local function admit(ask)
  local id, tenant = ARGV[2], ask[1]
  local f = redis.call('HMGET', STATE, 'k:' .. id, 't', 'off', 'fl', 'st', 'n', 'hd', 'bs', 'ba', 'br', 'V', 'ln', 'gl', 'fo', 'fr',
    'fu', 'hu', 'rs', 'rn', 'ro', 'i:' .. id, 'b:' .. tenant, 'node')
  if f[1] ~= ARGV[3] then return { -1 } end
  if ARGV[5] == '1' and f[23] ~= redis.call('CLUSTER', 'MYID') then return { -1 } end
  local t, offBefore = tonumber(f[2]), tonumber(f[3])
  local now, off = clock(t, offBefore, tonumber(ARGV[4]))
  if not now then return { -2 } end
  if num(f[20], 0) > now then return { -3, now, tonumber(f[20]) - now } end

  local reserved = num(f[18], 0)
  if reserved > 0 or now >= num(f[19], 0) then
    local members = cjson.decode(redis.call('HGET', STATE, 'M'))
    if now >= num(f[19], 0) then
      local all, again = roster(members, now)
      redis.call('HSET', STATE, 'rs', all, 'rn', again)
    end
    -- Its own share is not kept from the one who asks: who asks does not work alone.
    reserved = roster(members, now, id)
  end

  local hdBefore = tonumber(f[7])
  local hd, st = expire(now, hdBefore, tonumber(f[5]))
  local fl, n = tonumber(f[4]), tonumber(f[6])
  local ceiling, burst = ask[6], ask[7]
  local bs = spentOf(tonumber(f[8]), tonumber(f[9]), tonumber(f[10]), burst, now)
  local foreign, left, foreignFor = 0, FAR, 0
  if num(f[16], 0) > now then
    foreign, left, foreignFor = tonumber(f[14]), tonumber(f[15]), tonumber(f[16]) - now
  end
  local holdFor = max(0, num(f[17], 0) - now)
  local slots = ceiling - reserved - fl - st - foreign
  local crowded = fl >= left

  local entitled, guaranteed = false, false
  if f[13] and f[13] ~= '' then
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
    for who, count in string.gmatch(f[13], '([^ =]+)=(%d+)') do
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
    return max(wait, waitFor(bs, places, ceiling, burst))
  end
  -- What a refusal may write too: what time and the configuration have done, not what was asked.
  local function timePassed()
    if hd ~= hdBefore or off ~= offBefore then redis.call('HSET', STATE, 't', now, 'off', off, 'hd', hd, 'st', st) end
    if tonumber(f[10]) ~= ceiling then redis.call('HSET', STATE, 'bs', bs, 'ba', now, 'br', ceiling) end
  end
  local function refused(by, wait, spent)
    timePassed()
    return { 0, now, by, wait, spent }
  end

  if tenant == '' then
    local wait = holdFor
    if slots < 1 or crowded then wait = max(wait, windowMs(1 - slots)) end
    if wait > 0 then return refused(holdFor > 0 and 'hold' or 'account', wait, 0) end
    timePassed()
    redis.call('HSET', STATE, 't', now, 'fl', fl + 1, 'i:' .. id, num(f[21], 0) + 1, 'bs', min(bs + TOKEN, burst * TOKEN), 'ba', now)
    return { 1, now, n, 0 }
  end

  local rate, size, weight = ask[2], ask[3], ask[4]
  local spent, nextTag = 0, 0
  if f[22] then
    local before, at, oldRate, tag = unpacked(f[22])
    spent, nextTag = spentOf(before, at, oldRate, size, now), tag
    -- A new rate counts from now on: what was gained until now was gained at the old one.
    if oldRate ~= rate then redis.call('HSET', STATE, 'b:' .. tenant, packed(spent, now, rate, tag)) end
  end
  local tenantMs = waitFor(spent, 1, rate, size)
  if holdFor > 0 then return refused('hold', max(holdFor, tenantMs), spent) end
  local inLine = f[12] == '1'
  if tenantMs > 0 then
    if inLine then
      redis.call('ZREM', LINE, tenant)
      redis.call('ZREM', DUE, tenant)
    end
    return refused('tenant', max(tenantMs, accountMs(1)), spent)
  end

  local served = num(f[11], 0)
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
    if #due == 0 and redis.call('EXISTS', DUE) == 0 then redis.call('HSET', STATE, 'ln', '0') end
  end

  local available = 0
  if not crowded then available = min(slots, floor((burst * TOKEN - bs) / TOKEN)) - ask[8] end
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
      redis.call('HSET', STATE, 'ln', '1')
    end
    return refused('account', wait, spent)
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
  timePassed()
  redis.call('HSET', STATE, 't', now, 'fl', fl + 1, 'i:' .. id, num(f[21], 0) + 1, 'bs', min(bs + TOKEN, burst * TOKEN), 'ba', now,
    'V', max(served, lowest), 'b:' .. tenant, packed(spent, now, rate, tag + 1 / weight))
  if guaranteed then
    local step = 'g:' .. stepAfterWindow(now)
    local before = redis.call('HGET', STATE, step)
    redis.call('HSET', STATE, step, (before and before .. ' ' or '') .. tenant .. '=1')
    redis.call('HINCRBY', STATE, 'tu:' .. tenant, 1)
  end
  return { 1, now, n, spent }
end

local asks, replies = cjson.decode(ARGV[6]), {}
for i = 1, #asks do replies[i] = admit(asks[i]) end
return cjson.encode(replies)
