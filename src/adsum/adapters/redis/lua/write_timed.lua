-- Holds platforms until a deadline, and lets others go: letting go comes first.
-- KEYS  of each partition the first four
-- ARGV  1 operation ID (packed)  2 entries the feed keeps  3 ms a hold lasts  4 deadlines a partition may have
--       then for each partition, in the order of its keys: its number (packed), masks (of all users, or packed
--         of each), user IDs (packed, each once), causes (packed, as the feed has them); masks are
--         "<online low> <online high> <offline low> <offline high>"
-- Returns for each partition 1, the users for whom there was no room and nothing was done, or what failed.

-- What such masks do to such a record: the step, what the user's deadlines that go and come begin with,
-- and how many more there are then. Remembered, because most edits of a call are alike.
local effects = {}

local function effect_of(record, masks)
  local known = under(effects, record)
  if known[masks] then return known[masks] end
  local on_low, on_high, off_low, off_high = string.match(masks, '^(%d+) (%d+) (%d+) (%d+)$')
  on_low, on_high, off_low, off_high = tonumber(on_low), tonumber(on_high), tonumber(off_low), tonumber(off_high)
  local timed = read(record).holds[TIMED] or {0, 0}
  local gone = ids_of(band(timed[1], off_low, bnot(on_low)), band(timed[2], off_high, bnot(on_high)))
  local set = ids_of(on_low, on_high)
  for i, id in ipairs(gone) do gone[i] = id .. ':' end
  for i, id in ipairs(set) do set[i] = id .. ':' end
  local low = bor(band(timed[1], bnot(off_low)), on_low)
  local high = bor(band(timed[2], bnot(off_high)), on_high)
  local more = #set - #gone - #ids_of(band(timed[1], on_low), band(timed[2], on_high))
  local effect = {step = step_to_hold(record, TIMED, low, high), gone = gone, set = set, more = more}
  known[masks] = effect
  return effect
end

-- As text: each number that is passed is written out anew.
local deadline = string.format('%.0f', now_ms() + tonumber(ARGV[3]))

local most = tonumber(ARGV[4])

-- Masks that change nothing.
local NOTHING = '0 0 0 0'

local taken, gone, set = {}, {}, {}
return in_each_partition(DEADLINES, function(at, nth)
  local first, taken, gone, set, deadline = 5 + 4 * nth, taken, gone, set, deadline
  local masks, users = ARGV[first + 1], cmsgpack.unpack(ARGV[first + 2])
  local each = string.byte(masks) > 127 and cmsgpack.unpack(masks)
  local records, going, coming = records_of(at, users), 0, 0
  local effect, step, gone_first, set_first, several, more, its_record, its_masks
  -- How many more deadlines there may be: asked for only where there will be more.
  local room, refused
  for i = 1, #users do
    local user, record = users[i], records[i + 1]
    if each then masks = each[i] end
    -- Most often it is the same as that of the user before.
    if record ~= its_record or masks ~= its_masks then
      effect, its_record, its_masks = effect_of(record, masks), record, masks
      step, gone_first, set_first, more = effect.step, effect.gone[1], effect.set[1], effect.more
      several = #effect.gone > 1 or #effect.set > 1
    end
    if more > 0 then
      room = room or most - call('ZCARD', KEYS[at + DEADLINES])
      if more <= room then
        room = room - more
      else
        refused = refused or {}
        refused[#refused + 1] = user
        step, gone_first, set_first, several = effect_of(record, NOTHING).step, nil, nil, false
        its_masks = nil
      end
    elseif room then
      room = room - more
    end
    taken[i] = step
    if gone_first then
      going = going + 1
      gone[going] = gone_first .. user
    end
    if set_first then
      set[coming + 1], set[coming + 2] = deadline, set_first .. user
      coming = coming + 2
    end
    if several then
      for j = 2, #effect.gone do
        going = going + 1
        gone[going] = effect.gone[j] .. user
      end
      for j = 2, #effect.set do
        set[coming + 1], set[coming + 2] = deadline, effect.set[j] .. user
        coming = coming + 2
      end
    end
  end
  call_all('ZREM', KEYS[at + DEADLINES], gone, going)
  call_all('ZADD', KEYS[at + DEADLINES], set, coming)
  write(at, ARGV[first], users, records, ARGV[first + 2], ARGV[first + 3], taken, ARGV[1], ARGV[2])
  return refused or 1
end)
