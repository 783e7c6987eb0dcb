-- Which state this is, see state.lua.
local id = stateAt(wall())
-- Not where writes are begun: a full Redis refuses a script only before its first change.
redis.call('PEXPIRE', KEYS[1], KEPT_MS)
return id
