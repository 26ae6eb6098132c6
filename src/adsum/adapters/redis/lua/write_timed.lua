-- Holds platforms until a deadline, and lets others go; in order, letting go first.
-- ARGV  1 operation ID  2 entries the feed keeps  3 ms a hold lasts
--       4 packed, flat, for each edit: user ID, online low, high, offline low, high, connection ID,
--         background (0 or 1)

local deadline = now_ms() + tonumber(ARGV[3])

local edits = cmsgpack.unpack(ARGV[4])
read_all(edits, 1, 7)
for i = 1, #edits, 7 do
  local user = edits[i]
  local entry = touched[user]
  local on_low, on_high, off_low, off_high = edits[i + 1], edits[i + 2], edits[i + 3], edits[i + 4]
  local timed = entry.holds[TIMED] or {0, 0}
  local off, on = {}, {}
  count(off, band(timed[1], off_low), band(timed[2], off_high), 1)
  count(on, on_low, on_high, 1)
  for id in pairs(off) do redis.call('ZREM', KEYS[4], id .. ':' .. user) end
  for id in pairs(on) do redis.call('ZADD', KEYS[4], deadline, id .. ':' .. user) end
  local low = bor(band(timed[1], bnot(off_low)), on_low)
  local high = bor(band(timed[2], bnot(off_high)), on_high)
  hold(entry, TIMED, low, high)
  entry.conn, entry.background = edits[i + 5], edits[i + 6]
end
finish(ARGV[1], ARGV[2])
return 1
