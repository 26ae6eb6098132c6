-- Starts a lease under a new holder number.
-- ARGV  1 holder  2 ms it lasts

-- Where the last number is lost, holds and lanes may still name those given: the count goes on from the
-- microseconds since 1970, which it does not reach by counting.
if call('HEXISTS', KEYS[STATE], 'hid') == 0 and call('EXISTS', KEYS[USERS], KEYS[LEASES], KEYS[LANES]) > 0 then
  local time = call('TIME')
  call('HSET', KEYS[STATE], 'hid', string.format('%.0f', time[1] * 1000000 + time[2]))
end
local number = call('HINCRBY', KEYS[STATE], 'hid', 1)
call('HSET', KEYS[LEASES], ARGV[1], string.format('%d:%d', number, now_ms() + tonumber(ARGV[2])))
return number
