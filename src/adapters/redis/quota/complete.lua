-- Takes in completions of requests: see completions.lua for the request.
-- Reply    last: number of the last that was taken in | unknown | late
local s = load()
if redis.call('HGET', STATE, 'ticket:' .. REPLICA) ~= TICKET then return reply('unknown') end
local now = tick(s)
if not now then return reply('late') end
scaleQuota(s)
expire(now)
local last = takeIn(s, now)
save(s)
return reply('ok', { now = now, last = last })
