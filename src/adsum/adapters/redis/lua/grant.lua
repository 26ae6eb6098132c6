-- Starts a lease under a new holder number.
-- ARGV  1 holder  2 ms it lasts

local number = call('HINCRBY', KEYS[STATE], 'hid', 1)
call('HSET', KEYS[LEASES], ARGV[1], string.format('%d:%d', number, now_ms() + tonumber(ARGV[2])))
return number
