-- Holds platforms until a deadline, and lets others go; in order, letting go first.
-- ARGV  1 operation ID  2 entries the feed keeps  3 ms a hold lasts
--       then for each edit: user ID, online low, high, offline low, high, connection ID, background (0 or 1)

local deadline = now_ms() + tonumber(ARGV[3])

local function each(low, high, act)
  for id = 1, 31 do
    if band(low, lshift(1, id - 1)) ~= 0 then act(id) end
    if band(high, lshift(1, id - 1)) ~= 0 then act(id + 31) end
  end
end

for i = 4, #ARGV, 7 do
  local user = ARGV[i]
  local entry = open(user)
  local on_low, on_high = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local off_low, off_high = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local timed = entry.holds[TIMED] or {0, 0}
  each(band(timed[1], off_low), band(timed[2], off_high), function(id)
    redis.call('ZREM', KEYS[4], id .. ':' .. user)
  end)
  each(on_low, on_high, function(id)
    redis.call('ZADD', KEYS[4], deadline, id .. ':' .. user)
  end)
  local low = bor(band(timed[1], bnot(off_low)), on_low)
  local high = bor(band(timed[2], bnot(off_high)), on_high)
  hold(entry, TIMED, low, high)
  entry.conn, entry.background = ARGV[i + 5], tonumber(ARGV[i + 6])
end
finish(ARGV[1], ARGV[2])
return 1
