-- What all writing scripts share. Each script works on one partition, whose keys
-- have one hash tag, so that it is atomic on a cluster too.
--
-- KEYS  1 users      hash: user ID -> record
--       2 state      hash: v (version), hid (last holder number), c<platform ID> (users on it),
--                    l (unix ms of the last logins told), o (ms that these are ahead of the clock), s (unix ms of the last look at leases)
--       3 feed       stream: one entry a change of the version
--       4 deadlines  sorted set: "<platform ID>:<user ID>" -> unix ms at which the hold ends
--       5 leases     hash: holder -> "<holder number>:<unix ms at which it ends, below 1 once ended>"
--       6 lanes      hash: "<holder number>:<lane>" -> last sequence number
--       7 channel    where entries are published (sharded)
--
-- A record is "<holder number>:<low>[.<high>]" for each hold, joined by commas; the
-- holder "t" is the set calls. Lua counts in doubles and its bit library in 32 bits,
-- so a mask travels as two halves: low has platform IDs 1 to 31, high 32 to 62.

local bor, band, bnot, lshift, rshift = bit.bor, bit.band, bit.bnot, bit.lshift, bit.rshift
local TIMED = 't'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lives(holder)
  local ends_ms = string.match(redis.call('HGET', KEYS[5], holder) or '', ':(%d+)$')
  return ends_ms ~= nil and tonumber(ends_ms) > now_ms()
end

-- Whether the lease of the holder of this number was ended, and so can't be renewed.
local function has_ended(holder, number)
  local its_number, ends_ms = string.match(redis.call('HGET', KEYS[5], holder) or '', '^(%d+):(-?%d+)$')
  return its_number == number and tonumber(ends_ms) <= 0
end

local function lease_lost()
  return redis.error_reply('LEASELOST the lease of this holder has ended')
end

-- Lua passes so many values at most to one call with room to spare.
local PORTION = 2000

-- The users this call touches, each read once: the record before the call, and as it is now
-- (false: none).
local touched, order = {}, {}

local function take_over(user, record)
  touched[user] = {before = record, now = record, conn = '', background = 0}
  order[#order + 1] = user
end

-- What a record says: the holds by holder, each {low, high}, and the union of them. Not to be
-- changed: it is remembered, because within one call most records are the same.
local readings = {[false] = {holds = {}, low = 0, high = 0}}

local function read(record)
  local reading = readings[record]
  if reading then return reading end
  -- Nearly all records have one hold, on the lower half.
  local only, mask = string.match(record, '^([^:,]+):(%d+)$')
  if only then
    mask = tonumber(mask)
    reading = {holds = {[only] = {mask, 0}}, low = mask, high = 0}
    readings[record] = reading
    return reading
  end
  reading = {holds = {}, low = 0, high = 0}
  for holder, low, high in string.gmatch(record, '([^:,]+):(%d+)%.?(%d*)') do
    low, high = tonumber(low), tonumber(high) or 0
    reading.holds[holder] = {low, high}
    reading.low, reading.high = bor(reading.low, low), bor(reading.high, high)
  end
  readings[record] = reading
  return reading
end

-- Reads users that will be touched: each `step`th of `list` from `first` on, in few calls.
local function read_all(list, first, step)
  local users = {}
  for i = first, #list, step do users[#users + 1] = list[i] end
  for start = 1, #users, PORTION do
    local last = math.min(start + PORTION - 1, #users)
    local records = redis.call('HMGET', KEYS[1], unpack(users, start, last))
    for i = start, last do
      if not touched[users[i]] then take_over(users[i], records[i - start + 1]) end
    end
  end
end

-- The record with other platforms on one holder.
local function with_hold(record, holder, low, high)
  local text = (low ~= 0 or high ~= 0) and holder .. ':' .. low .. (high ~= 0 and '.' .. high or '')
  for other, mask in pairs(read(record).holds) do
    if other ~= holder then
      local part = other .. ':' .. mask[1] .. (mask[2] ~= 0 and '.' .. mask[2] or '')
      text = text and text .. ',' .. part or part
    end
  end
  return text
end

-- The same, remembered: a call is about one holder, and most of its users have the same record.
local outcomes = {}

local function hold(entry, holder, low, high)
  local record = entry.now
  local by_low = outcomes[record]
  if not by_low then
    by_low = {}
    outcomes[record] = by_low
  end
  local by_high = by_low[low]
  if not by_high then
    by_high = {}
    by_low[low] = by_high
  end
  if by_high[high] == nil then by_high[high] = with_hold(record, holder, low, high) end
  entry.now = by_high[high]
end

local function call_all(command, key, values)
  for start = 1, #values, PORTION do
    redis.call(command, key, unpack(values, start, math.min(start + PORTION - 1, #values)))
  end
end

local function count(counts, low, high, step)
  local id = 1
  while low ~= 0 do
    if band(low, 1) ~= 0 then counts[id] = (counts[id] or 0) + step end
    low, id = rshift(low, 1), id + 1
  end
  id = 32
  while high ~= 0 do
    if band(high, 1) ~= 0 then counts[id] = (counts[id] or 0) + step end
    high, id = rshift(high, 1), id + 1
  end
end

-- The platforms that came and went with the changes from one record to another, so many times.
local function count_all(steps)
  local counts = {}
  for before, afters in pairs(steps) do
    for after, times in pairs(afters) do
      local was, is = read(before), read(after)
      count(counts, band(is.low, bnot(was.low)), band(is.high, bnot(was.high)), times)
      count(counts, band(was.low, bnot(is.low)), band(was.high, bnot(is.high)), -times)
    end
  end
  return counts
end

-- Writes the touched users, and publishes whose union of holds changed and, if given,
-- what is to be told of logins (flat: user ID, platform ID, token, unix ms) and of ended
-- tokens (flat: user ID, token).
local function finish(op_id, history, logins, ended)
  local changes, steps, records, gone = {}, {}, {}, {}
  local n = 0
  for _, user in ipairs(order) do
    local entry = touched[user]
    local before, now = entry.before, entry.now
    if before ~= now then
      if now then
        records[#records + 1], records[#records + 2] = user, now
      else
        gone[#gone + 1] = user
      end
      local was, is = read(before), read(now)
      if was.low ~= is.low or was.high ~= is.high then
        changes[n + 1], changes[n + 2], changes[n + 3] = user, was.low, was.high
        changes[n + 4], changes[n + 5], changes[n + 6] = is.low, is.high, entry.conn
        changes[n + 7] = entry.background
        n = n + 7
        local afters = steps[before]
        if not afters then
          afters = {}
          steps[before] = afters
        end
        afters[now] = (afters[now] or 0) + 1
      end
    end
  end
  call_all('HSET', KEYS[1], records)
  call_all('HDEL', KEYS[1], gone)
  logins, ended = logins or {}, ended or {}
  if n == 0 and #logins == 0 and #ended == 0 then return end
  local fields, by = {'v'}, {}
  for id, step in pairs(count_all(steps)) do
    if step ~= 0 then fields[#fields + 1], by[#fields + 1] = 'c' .. id, step end
  end
  local state = redis.call('HMGET', KEYS[2], unpack(fields))
  local before = state[1] or '0-0'
  local packed = cmsgpack.pack({changes, logins, ended})
  local version = redis.call('XADD', KEYS[3], 'MAXLEN', '~', history, '*', 'p', before, 'o', op_id, 'c', packed)
  local values = {'v', version}
  for i = 2, #fields do
    values[#values + 1], values[#values + 2] = fields[i], (tonumber(state[i]) or 0) + by[i]
  end
  redis.call('HSET', KEYS[2], unpack(values))
  redis.call('SPUBLISH', KEYS[7], version .. '\n' .. before .. '\n' .. op_id .. '\n' .. packed)
end
