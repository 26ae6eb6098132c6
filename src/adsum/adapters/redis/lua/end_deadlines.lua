-- Lets go of up to so many holds whose deadline has passed; returns how many.
-- ARGV  1 operation ID  2 entries the feed keeps  3 partition  4 most holds

local due = call('ZRANGE', KEYS[DEADLINES], '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, ARGV[4])
local users, lows, highs = {}, {}, {}
for _, member in ipairs(due) do
  local id, user = string.match(member, '^(%d+):(.*)$')
  id = tonumber(id)
  if not lows[user] then
    users[#users + 1], lows[user], highs[user] = user, 0, 0
  end
  if id <= 31 then
    lows[user] = bor(lows[user], lshift(1, id - 1))
  else
    highs[user] = bor(highs[user], lshift(1, id - 32))
  end
end
local taken, records = {}, records_of(0, users)
for i, user in ipairs(users) do
  local record = records[i + 1]
  local timed = read(record).holds[TIMED] or {0, 0}
  local low, high = band(timed[1], bnot(lows[user])), band(timed[2], bnot(highs[user]))
  taken[i] = step_to_hold(record, TIMED, low, high)
end
call_all('ZREM', KEYS[DEADLINES], due, #due)
write_swept(ARGV[3], users, records, taken, ARGV[1], ARGV[2])
return #due
