-- Sets the present platforms of users on one holder.
-- ARGV  1 holder  2 lane  3 sequence number  4 operation ID  5 entries the feed keeps
--       6 packed, flat, for each user: user ID, low, high, connection ID, background (0 or 1)
--       7 packed, if there are any: logins (flat: user ID, platform ID, token, low and high
--         of the platforms it ends, age in ms, unix ms after which it was or 0, unix ms
--         at which it was or 0) and ended tokens
-- Errs with LEASELOST if the holder has no lease. Ignores a sequence number that is
-- not above the lane's last. Returns the unix ms at which logins are told, 0 if
-- there are none.

local lease = redis.call('HGET', KEYS[5], ARGV[1])
local holder, ends_ms = string.match(lease or '', '^(%d+):(%d+)$')
if not holder or tonumber(ends_ms) <= now_ms() then
  return lease_lost()
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
if not ARGV[7] then
  finish(ARGV[4], ARGV[5])
  return 0
end

local function held_elsewhere(user, low, high)
  for other, mask in pairs(read(touched[user].now).holds) do
    if other ~= holder and other ~= TIMED and (band(mask[1], low) ~= 0 or band(mask[2], high) ~= 0) then return true end
  end
  return false
end

-- Where the clock stepped back, or a replica with a slower one took over, time runs on from
-- where it was: logins must not seem older than those before, nor all of the same moment.
local time, past = now_ms(), redis.call('HMGET', KEYS[2], 'l', 'o')
local ahead = math.max(tonumber(past[2] or 0), tonumber(past[1] or 0) - time)
local now = time + ahead
local logins, ended = unpack(cmsgpack.unpack(ARGV[7]))
local told = {}
for i = 1, #logins, 8 do
  local user, at_ms = logins[i], logins[i + 7]
  if at_ms == 0 then at_ms = math.max(now - logins[i + 5], logins[i + 6] + 1) end
  if held_elsewhere(user, logins[i + 3], logins[i + 4]) then
    local n = #told
    told[n + 1], told[n + 2], told[n + 3], told[n + 4] = user, logins[i + 1], logins[i + 2], at_ms
  end
end
redis.call('HSET', KEYS[2], 'l', string.format('%.0f', now), 'o', string.format('%.0f', ahead))
finish(ARGV[4], ARGV[5], told, ended)
return now
