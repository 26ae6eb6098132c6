-- What all writing scripts share. Each script works on one partition, whose keys
-- have one hash tag, so that it is atomic on a cluster too.
--
-- KEYS  1 users      hash: user ID -> record
--       2 state      hash: v (version), hid (last holder number), c<platform ID> (users on it)
--       3 feed       stream: one entry a change of the version
--       4 deadlines  sorted set: "<platform ID>:<user ID>" -> unix ms at which the hold ends
--       5 leases     hash: holder -> "<holder number>:<unix ms at which it ends>"
--       6 lanes      hash: "<holder number>:<lane>" -> last sequence number
--       7 channel    where entries are published (sharded)
--
-- A record is "<holder number>:<low>[.<high>]" for each hold, joined by commas; the
-- holder "t" is the set calls. Lua counts in doubles and its bit library in 32 bits,
-- so a mask travels as two halves: low has platform IDs 1 to 31, high 32 to 62.

local bor, band, bnot, lshift = bit.bor, bit.band, bit.bnot, bit.lshift
local TIMED = 't'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function parse(record)
  local holds = {}
  if record then
    for holder, low, high in string.gmatch(record, '([^:,]+):(%d+)%.?(%d*)') do
      holds[holder] = {tonumber(low), tonumber(high) or 0}
    end
  end
  return holds
end

local function format(holds)
  local parts = {}
  for holder, mask in pairs(holds) do
    local text = string.format('%s:%d', holder, mask[1])
    if mask[2] ~= 0 then text = text .. string.format('.%d', mask[2]) end
    parts[#parts + 1] = text
  end
  return table.concat(parts, ',')
end

local function union(holds)
  local low, high = 0, 0
  for _, mask in pairs(holds) do
    low, high = bor(low, mask[1]), bor(high, mask[2])
  end
  return low, high
end

-- The users this call touches, each read once: holds, and the mask before the call.
local touched, order = {}, {}

local function open(user)
  local entry = touched[user]
  if not entry then
    local holds = parse(redis.call('HGET', KEYS[1], user))
    local low, high = union(holds)
    entry = {holds = holds, low = low, high = high, conn = '', background = 0}
    touched[user] = entry
    order[#order + 1] = user
  end
  return entry
end

local function hold(entry, holder, low, high)
  if low == 0 and high == 0 then
    entry.holds[holder] = nil
  else
    entry.holds[holder] = {low, high}
  end
end

local function count(counts, low, high, step)
  for id = 1, 31 do
    if band(low, lshift(1, id - 1)) ~= 0 then counts[id] = (counts[id] or 0) + step end
    if band(high, lshift(1, id - 1)) ~= 0 then counts[id + 31] = (counts[id + 31] or 0) + step end
  end
end

-- Writes the touched users, and publishes whose union of holds changed.
local function finish(op_id, history)
  local changes, counts = {}, {}
  for _, user in ipairs(order) do
    local entry = touched[user]
    local low, high = union(entry.holds)
    if low == 0 and high == 0 then
      redis.call('HDEL', KEYS[1], user)
    else
      redis.call('HSET', KEYS[1], user, format(entry.holds))
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
  if #changes == 0 then return end
  for id, step in pairs(counts) do
    redis.call('HINCRBY', KEYS[2], 'c' .. id, step)
  end
  local before = redis.call('HGET', KEYS[2], 'v') or '0-0'
  local packed = cmsgpack.pack(changes)
  local version = redis.call('XADD', KEYS[3], 'MAXLEN', '~', history, '*', 'p', before, 'o', op_id, 'c', packed)
  redis.call('HSET', KEYS[2], 'v', version)
  redis.call('SPUBLISH', KEYS[7], table.concat({version, before, op_id, packed}, '\n'))
end
