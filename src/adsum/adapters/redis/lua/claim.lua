-- Bids for a partition in a role: moves the cursor if the bidder is the owner, then has the
-- bidder own the partition if it wants to and nobody living does; or has it leave.
-- ARGV  1 role  2 holder  3 'take', 'look' or 'leave'  4 the version all is done up to, or ''
-- Returns the cursor (false unless the bidder is the owner), the present version, how many
-- living holders bid, and 1 if nobody is the owner. Errs with LEASELOST if the bidder has no
-- lease, unless it leaves.
--
-- State field r:<role>: "<cursor> <owner's number, or 0> <number of each who bids> ..."

local live, me = {}, nil
local now, leases = now_ms(), call('HGETALL', KEYS[LEASES])
for i = 1, #leases, 2 do
  local number, ends_ms = string.match(leases[i + 1], '^(%d+):(-?%d+)$')
  if tonumber(ends_ms) > now then
    live[number] = true
    if leases[i] == ARGV[2] then me = number end
  end
end
if not me then
  if ARGV[3] == 'leave' then return {false, '0-0', 0, 0} end
  return redis.error_reply('LEASELOST the lease of this holder has ended')
end

local function is_after(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(seq) > tonumber(other_seq))
end

local field = 'r:' .. ARGV[1]
local version = cmsgpack.unpack((version_and_counts(call('HGET', KEYS[USERS], '') or NEW)))

-- A version that this partition does not have is one of a past that the store has lost. Of the entries
-- no longer kept it has the last one's, which the first that is kept names.
local function is_known(one)
  if one == version or #call('XRANGE', KEYS[FEED], one, one) == 1 then return true end
  local first = call('XRANGE', KEYS[FEED], '-', '+', 'COUNT', 1)[1]
  return first ~= nil and cmsgpack.unpack(first[2][2])[1] == one
end

local record = call('HGET', KEYS[STATE], field)
-- Who gives up what nobody ever bid for must not be where the role begins.
if not record and ARGV[3] == 'leave' then return {false, version, 0, 1} end
local cursor, owner, numbers = string.match(record or version .. ' 0', '^(%S+) (%d+)(.*)$')
local bidders, known = {}, false
for number in string.gmatch(numbers, '%d+') do
  if live[number] and not (number == me and ARGV[3] == 'leave') then
    bidders[#bidders + 1] = number
    known = known or number == me
  end
end
if not known and ARGV[3] ~= 'leave' then bidders[#bidders + 1] = me end
if not live[owner] then owner = '0' end
if owner == me and ARGV[4] ~= '' and is_after(ARGV[4], cursor) and is_known(ARGV[4]) then cursor = ARGV[4] end
if ARGV[3] == 'leave' and owner == me then owner = '0' end
if ARGV[3] == 'take' and owner == '0' then owner = me end
local fresh = cursor .. ' ' .. owner .. ' ' .. table.concat(bidders, ' ')
if fresh ~= record then call('HSET', KEYS[STATE], field, fresh) end
return {owner == me and cursor, version, #bidders, owner == '0' and 1 or 0}
