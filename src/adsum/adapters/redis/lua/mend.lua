-- Looks at some of the users and deadlines of a partition for what the loss of single keys leaves behind:
-- - holds whose holder no lease names, because the leases were lost, would stay for ever: their holder gets
--   a lease that nobody renews. What it held is ended with that, once its gateway has written it anew.
-- - set platforms without a deadline, because the deadlines were lost, would stay too: they get one.
-- - deadlines of platforms that are not set, because the users were lost: they are set again.
-- ARGV  1 operation ID  2 entries the feed keeps  3 partition  4 ms a lease lasts  5 ms a set platform lasts
--       6 of users, and of deadlines, looked at, at least
-- Returns how many of each it mended.
--
-- State field m: "<cursor of users> <cursor of deadlines>", from where the next look goes on.

local LOOKS_A_ROUND = 600 -- at most: of more users, a look takes in more

local now = now_ms()
local at_user, at_deadline = string.match(call('HGET', KEYS[STATE], 'm') or '0 0', '^(%d+) (%d+)$')

local function portion_of(size)
  return math.max(tonumber(ARGV[6]), math.ceil(size / LOOKS_A_ROUND))
end

-- The holders by number, and users without a deadline, of the records looked at. Most records are alike.
local function look_at_users()
  local page = call('HSCAN', KEYS[USERS], at_user, 'COUNT', portion_of(call('HLEN', KEYS[USERS])))
  local found, holders, timed = page[2], {}, {}
  for i = 1, #found, 2 do
    if found[i] ~= '' then
      for holder, mask in pairs(read(found[i + 1]).holds) do
        if holder == TIMED then
          timed[#timed + 1] = {found[i], ids_of(mask[1], mask[2])}
        else
          holders[holder] = true
        end
      end
    end
  end
  return page[1], holders, timed
end

local function lease_unknown(holders)
  if next(holders) == nil then return 0 end
  local leases, count = call('HGETALL', KEYS[LEASES]), 0
  for i = 2, #leases, 2 do holders[string.match(leases[i], '^%d+')] = nil end
  for number in pairs(holders) do
    call('HSET', KEYS[LEASES], 'unknown-' .. number, string.format('%s:%.0f', number, now + tonumber(ARGV[4])))
    count = count + 1
  end
  return count
end

local function limit_endless(timed)
  local count, deadline = 0, string.format('%.0f', now + tonumber(ARGV[5]))
  for _, one in ipairs(timed) do
    for _, id in ipairs(one[2]) do count = count + call('ZADD', KEYS[DEADLINES], 'NX', deadline, id .. ':' .. one[1]) end
  end
  return count
end

local function look_at_deadlines()
  local page = call('ZSCAN', KEYS[DEADLINES], at_deadline, 'COUNT', portion_of(call('ZCARD', KEYS[DEADLINES])))
  local found, users, lows, highs = page[2], {}, {}, {}
  for i = 1, #found, 2 do
    local id, user = string.match(found[i], '^(%d+):(.*)$')
    id = tonumber(id)
    if tonumber(found[i + 1]) > now then
      if not lows[user] then users[#users + 1], lows[user], highs[user] = user, 0, 0 end
      if id <= 31 then
        lows[user] = bor(lows[user], lshift(1, id - 1))
      else
        highs[user] = bor(highs[user], lshift(1, id - 32))
      end
    end
  end
  return page[1], users, lows, highs
end

local function set_again(users, lows, highs)
  local records, lost, records_of_lost, taken = records_of(0, users), {}, {}, {}
  records_of_lost[1] = records[1]
  for i, user in ipairs(users) do
    local timed = read(records[i + 1]).holds[TIMED] or {0, 0}
    local low, high = bor(timed[1], lows[user]), bor(timed[2], highs[user])
    if low ~= timed[1] or high ~= timed[2] then
      local n = #lost + 1
      lost[n], records_of_lost[n + 1] = user, records[i + 1]
      taken[n] = step_to_hold(records[i + 1], TIMED, low, high)
    end
  end
  if #lost > 0 then write_swept(ARGV[3], lost, records_of_lost, taken, ARGV[1], ARGV[2]) end
  return #lost
end

local next_user, holders, timed = look_at_users()
local unknown, endless = lease_unknown(holders), limit_endless(timed)
local next_deadline, users, lows, highs = look_at_deadlines()
local set = #users > 0 and set_again(users, lows, highs) or 0
if next_user ~= at_user or next_deadline ~= at_deadline then
  call('HSET', KEYS[STATE], 'm', next_user .. ' ' .. next_deadline)
end
return {unknown, endless, set}
