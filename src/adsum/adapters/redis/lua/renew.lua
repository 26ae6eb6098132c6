-- Prolongs a lease; returns 1, or 0 if it has ended.
-- ARGV  1 holder  2 ms it lasts from now

local number, ends_ms = string.match(call('HGET', KEYS[LEASES], ARGV[1]) or '', '^(%d+):(%d+)$')
local now = now_ms()
if not number or tonumber(ends_ms) <= now then return 0 end
call('HSET', KEYS[LEASES], ARGV[1], string.format('%s:%d', number, now + tonumber(ARGV[2])))
return 1
