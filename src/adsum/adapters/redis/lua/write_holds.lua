-- Sets the present platforms of users on one holder.
-- ARGV  1 holder  2 lane  3 sequence number  4 operation ID (packed)  5 entries the feed keeps
--       then for each partition, in the order of its keys: its number (packed), user IDs (packed, each once),
--         causes (packed, as the feed has them), and packed: low and high of each user (flat), logins
--         (flat: user ID, platform ID, token, low and high of the platforms it ends, age in ms, unix
--         ms after which it was or 0, unix ms at which it was or 0), ended tokens (as the feed has them)
-- Errs with LEASELOST if the holder has no lease in one of them; then nothing is written in any.
-- Ignores a sequence number that is not above the lane's last. Returns for each partition the
-- unix ms at which logins are told, 0 if there are none, or what failed there.

local now, holders = now_ms(), {}
for at = 0, #KEYS - 1, LANES do
  local holder, ends_ms = string.match(call('HGET', KEYS[at + LEASES], ARGV[1]) or '', '^(%d+):(%d+)$')
  if not holder or tonumber(ends_ms) <= now then return lease_lost() end
  holders[at] = holder
end

local function held_elsewhere(record, holder, low, high)
  for other, mask in pairs(read(record).holds) do
    if other ~= holder and other ~= TIMED and (band(mask[1], low) ~= 0 or band(mask[2], high) ~= 0) then return true end
  end
  return false
end

-- When logins are told. Where the clock stepped back, or a replica with a slower one took over, time
-- runs on from where it was: logins must not seem older than those before, nor all of the same moment.
local function told_at(at)
  local past = call('HMGET', KEYS[at + STATE], 'l', 'o')
  local ahead = math.max(tonumber(past[2] or 0), tonumber(past[1] or 0) - now)
  call('HSET', KEYS[at + STATE], 'l', string.format('%.0f', now + ahead), 'o', string.format('%.0f', ahead))
  return now + ahead
end

-- Those logins to be told of: another holder has a platform that they end.
local function to_tell(logins, told_ms, holder, users, records)
  local records_by_user, told, n = {}, {}, 0
  for i = 1, #users do records_by_user[users[i]] = records[i + 1] end
  for i = 1, #logins, 8 do
    local user, at_ms = logins[i], logins[i + 7]
    if at_ms == 0 then at_ms = math.max(told_ms - logins[i + 5], logins[i + 6] + 1) end
    if held_elsewhere(records_by_user[user], holder, logins[i + 3], logins[i + 4]) then
      told[n + 1], told[n + 2], told[n + 3], told[n + 4] = user, logins[i + 1], logins[i + 2], at_ms
      n = n + 4
    end
  end
  return told
end

local taken = {}
return in_each_partition(LANES, function(at, nth)
  local first, holder = 6 + 4 * nth, holders[at]
  local lane, told_ms = holder .. ':' .. ARGV[2], 0
  if tonumber(ARGV[3]) > tonumber(call('HGET', KEYS[at + LANES], lane) or 0) then
    local users, told_of = cmsgpack.unpack(ARGV[first + 1]), cmsgpack.unpack(ARGV[first + 3])
    local masks, logins, ended = told_of[1], told_of[2], told_of[3]
    local records, told = records_of(at, users), nil
    for i = 1, #users do taken[i] = step_to_hold(records[i + 1], holder, masks[2 * i - 1], masks[2 * i]) end
    if #logins > 0 or #ended > 0 then
      told_ms = told_at(at)
      told = to_tell(logins, told_ms, holder, users, records)
    end
    write(at, ARGV[first], users, records, ARGV[first + 1], ARGV[first + 2], taken, ARGV[4], ARGV[5], told, ended)
    -- Last, so that what failed half way is done whole when it comes again.
    call('HSET', KEYS[at + LANES], lane, ARGV[3])
  end
  return told_ms
end)
