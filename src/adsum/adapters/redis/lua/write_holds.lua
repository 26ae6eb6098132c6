-- Sets the present platforms of users on one holder.
-- ARGV  1 holder  2 lane  3 sequence number  4 operation ID  5 entries the feed keeps
--       6 packed, flat, for each user: user ID, low, high, connection ID, background (0 or 1)
-- Errs with LEASELOST if the holder has no lease. Ignores a sequence number that is
-- not above the lane's last.

local lease = redis.call('HGET', KEYS[5], ARGV[1])
local holder, ends_ms = string.match(lease or '', '^(%d+):(%d+)$')
if not holder or tonumber(ends_ms) <= now_ms() then
  return redis.error_reply('LEASELOST the lease of this holder has ended')
end
local lane = holder .. ':' .. ARGV[2]
if tonumber(ARGV[3]) <= tonumber(redis.call('HGET', KEYS[6], lane) or 0) then return 0 end
redis.call('HSET', KEYS[6], lane, ARGV[3])
local states = cmsgpack.unpack(ARGV[6])
read_all(states, 1, 5)
for i = 1, #states, 5 do
  local entry = touched[states[i]]
  hold(entry, holder, states[i + 1], states[i + 2])
  entry.conn, entry.background = states[i + 3], states[i + 4]
end
finish(ARGV[4], ARGV[5])
return 1
