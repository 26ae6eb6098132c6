-- Lets go of up to so many holds whose deadline has passed; returns how many.
-- ARGV  1 operation ID  2 entries the feed keeps  3 most holds

local due = redis.call('ZRANGE', KEYS[4], '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do
  redis.call('ZREM', KEYS[4], member)
  local id, user = string.match(member, '^(%d+):(.*)$')
  id = tonumber(id)
  local entry = open(user)
  local timed = entry.holds[TIMED] or {0, 0}
  if id <= 31 then
    hold(entry, TIMED, band(timed[1], bnot(lshift(1, id - 1))), timed[2])
  else
    hold(entry, TIMED, timed[1], band(timed[2], bnot(lshift(1, id - 32))))
  end
end
finish(ARGV[1], ARGV[2])
return #due
