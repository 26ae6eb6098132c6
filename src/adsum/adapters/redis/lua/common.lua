-- What all writing scripts share. Each script works on one partition, whose keys
-- have one hash tag, so that it is atomic on a cluster too.
--
-- KEYS  1 users      hash: user ID -> record
--       2 state      hash: v (version), hid (last holder number), c<platform ID> (users on it),
--                    l (unix ms of the last logins told)
--       3 feed       stream: one entry a change of the version
--       4 deadlines  sorted set: "<platform ID>:<user ID>" -> unix ms at which the hold ends
--       5 leases     hash: holder -> "<holder number>:<unix ms at which it ends>"
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

-- Lua passes so many values at most to one call with room to spare.
local PORTION = 2000

-- The users this call touches, each read once: holds, and the mask before the call.
local touched, order = {}, {}

local function take_over(user, record)
  local entry = {holds = {}, low = 0, high = 0, conn = '', background = 0}
  if record then
    for holder, low, high in string.gmatch(record, '([^:,]+):(%d+)%.?(%d*)') do
      low, high = tonumber(low), tonumber(high) or 0
      entry.holds[holder] = {low, high}
      entry.low, entry.high = bor(entry.low, low), bor(entry.high, high)
    end
  end
  touched[user] = entry
  order[#order + 1] = user
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

local function hold(entry, holder, low, high)
  if low == 0 and high == 0 then
    entry.holds[holder] = nil
  else
    entry.holds[holder] = {low, high}
  end
end

-- A user's record, and the union of its holds.
local function format(holds)
  local text, low, high = nil, 0, 0
  for holder, mask in pairs(holds) do
    local part = holder .. ':' .. mask[1]
    if mask[2] ~= 0 then part = part .. '.' .. mask[2] end
    text = text and (text .. ',' .. part) or part
    low, high = bor(low, mask[1]), bor(high, mask[2])
  end
  return text, low, high
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

-- Writes the touched users, and publishes whose union of holds changed and, if given,
-- what is to be told of logins (flat: user ID, platform ID, token, unix ms) and ended tokens.
local function finish(op_id, history, logins, ended)
  local changes, counts, records, gone = {}, {}, {}, {}
  for _, user in ipairs(order) do
    local entry = touched[user]
    local record, low, high = format(entry.holds)
    if record then
      records[#records + 1] = user
      records[#records + 1] = record
    else
      gone[#gone + 1] = user
    end
    if low ~= entry.low or high ~= entry.high then
      local n = #changes
      changes[n + 1], changes[n + 2], changes[n + 3] = user, entry.low, entry.high
      changes[n + 4], changes[n + 5], changes[n + 6] = low, high, entry.conn
      changes[n + 7] = entry.background
      count(counts, band(low, bnot(entry.low)), band(high, bnot(entry.high)), 1)
      count(counts, band(entry.low, bnot(low)), band(entry.high, bnot(high)), -1)
    end
  end
  call_all('HSET', KEYS[1], records)
  call_all('HDEL', KEYS[1], gone)
  logins, ended = logins or {}, ended or {}
  if #changes == 0 and #logins == 0 and #ended == 0 then return end
  for id, step in pairs(counts) do
    if step ~= 0 then redis.call('HINCRBY', KEYS[2], 'c' .. id, step) end
  end
  local before = redis.call('HGET', KEYS[2], 'v') or '0-0'
  local packed = cmsgpack.pack({changes, logins, ended})
  local version = redis.call('XADD', KEYS[3], 'MAXLEN', '~', history, '*', 'p', before, 'o', op_id, 'c', packed)
  redis.call('HSET', KEYS[2], 'v', version)
  redis.call('SPUBLISH', KEYS[7], version .. '\n' .. before .. '\n' .. op_id .. '\n' .. packed)
end
