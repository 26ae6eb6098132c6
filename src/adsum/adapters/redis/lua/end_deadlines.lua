-- Lets go of up to so many holds whose deadline has passed; returns how many.
-- ARGV  1 operation ID  2 entries the feed keeps  3 most holds

local due = redis.call('ZRANGE', KEYS[4], '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, ARGV[3])
local users = {}
for i, member in ipairs(due) do
  users[i] = string.match(member, '^%d+:(.*)$')
end
read_all(users, 1, 1)
for i, member in ipairs(due) do
  local id, entry = tonumber(string.match(member, '^%d+')), touched[users[i]]
  local timed = read(entry.now).holds[TIMED] or {0, 0}
  if id <= 31 then
    hold(entry, TIMED, band(timed[1], bnot(lshift(1, id - 1))), timed[2])
  else
    hold(entry, TIMED, timed[1], band(timed[2], bnot(lshift(1, id - 32))))
  end
end
call_all('ZREM', KEYS[4], due)
finish(ARGV[1], ARGV[2])
return #due
