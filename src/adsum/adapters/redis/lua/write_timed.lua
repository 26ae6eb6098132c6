-- Holds platforms until a deadline, and lets others go; in order, letting go first.
-- ARGV  1 operation ID  2 entries the feed keeps  3 ms a hold lasts
--       4 packed, flat, for each edit: user ID, masks, connection ID, background (0 or 1); masks
--         are "<online low> <online high> <offline low> <offline high>"

-- What such masks do to such a record: the new one, and what the user's deadlines that go and
-- come begin with. Remembered, because most edits of a call are alike.
local effects = {}

local function effect_of(record, masks)
  local by_masks = effects[record]
  if not by_masks then
    by_masks = {}
    effects[record] = by_masks
  end
  local effect = by_masks[masks]
  if effect then return effect end
  local on_low, on_high, off_low, off_high = string.match(masks, '^(%d+) (%d+) (%d+) (%d+)$')
  on_low, on_high, off_low, off_high = tonumber(on_low), tonumber(on_high), tonumber(off_low), tonumber(off_high)
  local timed = read(record).holds[TIMED] or {0, 0}
  local gone, set = {}, {}
  count(gone, band(timed[1], off_low, bnot(on_low)), band(timed[2], off_high, bnot(on_high)), 1)
  count(set, on_low, on_high, 1)
  effect = {gone = {}, set = {}}
  for id in pairs(gone) do effect.gone[#effect.gone + 1] = id .. ':' end
  for id in pairs(set) do effect.set[#effect.set + 1] = id .. ':' end
  local low = bor(band(timed[1], bnot(off_low)), on_low)
  local high = bor(band(timed[2], bnot(off_high)), on_high)
  effect.record = with_hold(record, TIMED, low, high)
  by_masks[masks] = effect
  return effect
end

local deadline = now_ms() + tonumber(ARGV[3])

local edits = cmsgpack.unpack(ARGV[4])
read_all(edits, 1, 4)
-- By member, 0 for one that goes: a later edit of the same user has the last word.
local deadlines = {}
for i = 1, #edits, 4 do
  local user = edits[i]
  local entry = touched[user]
  local effect = effect_of(entry.now, edits[i + 1])
  for _, platform in ipairs(effect.gone) do deadlines[platform .. user] = 0 end
  for _, platform in ipairs(effect.set) do deadlines[platform .. user] = 1 end
  entry.now = effect.record
  entry.conn, entry.background = edits[i + 2], edits[i + 3]
end
local gone, set = {}, {}
for member, stays in pairs(deadlines) do
  if stays == 1 then
    set[#set + 1], set[#set + 2] = deadline, member
  else
    gone[#gone + 1] = member
  end
end
call_all('ZREM', KEYS[4], gone)
call_all('ZADD', KEYS[4], set)
finish(ARGV[1], ARGV[2])
return 1
