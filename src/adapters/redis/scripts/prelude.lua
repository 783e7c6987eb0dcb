-- What all scripts of the ledger share; put in front of each of them. src/quota/account.ts is the model: a property test
-- holds these scripts to it, so whoever changes the arithmetic of one changes the other.
--
-- KEYS  1 state: one hash an account   2 line: waiting tenants by tag   3 due: the same by the time they were told
-- ARGV  1 time in ms, empty for that of the server (tests set it)   2 replica   3 its ticket   4 the latest it can be by the caller's
--       clock, -1: not known
--
-- Fields of the state (times are logical, in ms, see `clock`):
--   t off            time of the latest change, and how far the server's clock is ahead of it
--   base             name of this state: times of another one mean nothing here
--   run node         process (and cluster node) this state was made on: on another one it is a copy that may lack the latest
--   fl st n hd       slots in flight; answered and held; ever answered; first step that is not over
--   f:<step>         slots that are free once this step of 100 ms has begun
--   bs ba br         account bucket: millionths spent, as of when, refilled at this rate
--   b:<tenant>       the same of a tenant, and its next tag, in one: `spent at rate tag`
--   tu:<tenant>      what it used of its guarantee
--   V ln             tag that is being served; whether somebody may stand in line
--   gl gh g:<step>   guarantees `id=slots …`; first step not over; admissions that are a minute old then
--   fo fr fu         foreign use: slots, what was left, until when; fx* what it was concluded from
--   hu hs hn         hold: until, since, the next untold length
--   ob               an answer has told what the minute before this state had used
--   M rs rn at lb    members (JSON), slots reserved for silent ones, when that changes next; time in which somebody was
--                    heard, and when that was last
--   k: i: q:<replica>   its ticket, its slots in flight, the last of its endings that was taken in
--   ro rm gx ga      recovery: closed until; who is still missing; slots that others may hold, and the age of that news
--   ou               until when slots may be held that no member knows of
local STATE, LINE, DUE = KEYS[1], KEYS[2], KEYS[3]
local STEP, WINDOW, TOKEN, GRACE, EARLY = 100, 60000, 1000000, 250, 10
-- What the caller's clock and the way here may differ by. Slots are held as much longer than a window (stepAfterWindow).
local SLACK = 100
local floor, max, min = math.floor, math.max, math.min
-- Later than any time and more than any count; an infinity does not survive being stored everywhere.
local FAR = 9e15

-- One script, one moment.
local wallTime
local function wall()
  if ARGV[1] ~= '' then return floor(tonumber(ARGV[1])) end
  if not wallTime then
    local time = redis.call('TIME')
    wallTime = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  end
  return wallTime
end

-- Time that neither goes back nor leaps, whatever the server's clock does. The caller knows by a clock of its own how late it
-- can be at most (`latest`). Where the server's is later, either the command was carried out late, or the clock was set
-- forward: a caller that is answered at once knows which, and comes back to have the leap taken out (`adopt`).
-- Returns now and the new offset, or nil and what time it would be.
local function clock(t, off, latest, adopt)
  local at = wall()
  local now = at - off
  if now < t then return t, at - t end
  if latest >= 0 and now > latest + SLACK then
    if not adopt then return nil, now end
    return max(t, latest), at - max(t, latest)
  end
  return now, off
end

-- Frees the slots whose step has begun.
local function expire(now, hd, st)
  local present = floor(now / STEP)
  while hd <= present do
    if st == 0 then return present + 1, 0 end
    local last = min(present, hd + 63)
    local names, gone = {}, {}
    for step = hd, last do names[#names + 1] = 'f:' .. step end
    local counts = redis.call('HMGET', STATE, unpack(names))
    for i = 1, #names do
      if counts[i] then
        st = st - tonumber(counts[i])
        gone[#gone + 1] = names[i]
      end
    end
    if #gone > 0 then redis.call('HDEL', STATE, unpack(gone)) end
    hd = last + 1
  end
  return hd, st
end

-- Until so many of the answered slots are free.
local function freeIn(count, now, hd, st)
  if count > st then return WINDOW end
  local freed = 0
  while true do
    local names = {}
    for step = hd, hd + 63 do names[#names + 1] = 'f:' .. step end
    local counts = redis.call('HMGET', STATE, unpack(names))
    for i = 1, #names do
      if counts[i] then
        freed = freed + tonumber(counts[i])
        if freed >= count then return (hd + i - 1) * STEP - now end
      end
    end
    hd = hd + 64
  end
end

local function refilled(elapsed, rate)
  return floor(elapsed * rate * 50 / 3)
end

local function spentOf(spent, at, rate, burst, now)
  return min(max(0, spent - refilled(max(0, now - at), rate)), burst * TOKEN)
end

local function waitFor(spent, tokens, rate, burst)
  local missing = spent - (burst - tokens) * TOKEN
  if missing <= 0 then return 0 end
  local ms = math.ceil(missing * 3 / (rate * 50))
  if refilled(ms, rate) < missing then return ms + 1 end
  return ms
end

-- The step in which an answer of now is a window old: rounded up, and one more for a clock that was set forward unseen.
local function stepAfterWindow(now)
  return floor((now + WINDOW) / STEP) + 2
end

-- A tenant's bucket: spent, as of when, at which rate, next tag. Lua's own way to write numbers would round them.
local function unpacked(bucket)
  local spent, at, rate, tag = string.match(bucket, '^(%S+) (%S+) (%S+) (%S+)$')
  return tonumber(spent), tonumber(at), tonumber(rate), tonumber(tag)
end

local function packed(spent, at, rate, tag)
  return string.format('%.0f %.0f %.17g %.17g', spent, at, rate, tag)
end

local function num(value, default)
  return value and tonumber(value) or default
end
