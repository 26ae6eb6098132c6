-- What all writing scripts share. The keys of a partition have one hash tag: on a cluster a script
-- works on one partition. Where one server has all, `write_timed` and `write_holds` take several,
-- and the keys of one partition follow those of the other.
--
-- KEYS  1 users      hash: user ID -> record, and of nobody, '' -> summary (what is written and
--                    read with users is cheapest beside them)
--       2 feed       stream: one entry a change of the version
--       3 channel    where entries are published (sharded): all of one call on that of its first partition
--       4 deadlines  sorted set: "<platform ID>:<user ID>" -> unix ms at which the hold ends
--       5 state      hash: hid (last holder number), l (unix ms of the last logins told), o (ms that
--                    these are ahead of the clock), s (unix ms of the last look at leases),
--                    r:<role> (see claim.lua); of partition 0 also how the store is set
--       6 leases     hash: holder -> "<holder number>:<unix ms at which it ends, below 1 once ended>"
--       7 lanes      hash: "<holder number>:<lane>" -> last sequence number
--
-- A message has for each entry: partition, version, and what the entry tells.
--
-- A feed entry has one field, packed: version before, operation ID, steps (flat, for each: low and
-- high before, low and high after), which of them each user took (empty: all the only one), logins
-- (flat: user ID, platform ID, token, unix ms), ended tokens (flat: user ID, token), users, and
-- causes: connection IDs (empty: none), backgrounds (booleans; empty: none).
--
-- A record is "<holder number>:<low>[.<high>]" for each hold, joined by commas; the
-- holder "t" is the set calls. Lua counts in doubles and its bit library in 32 bits,
-- so a mask travels as two halves: low has platform IDs 1 to 31, high 32 to 62.
--
-- A summary is the version, packed, and counts: how many users are on each platform from ID 1 on, four
-- bytes each, as far as any ever was.

local bor, band, bnot, lshift, rshift = bit.bor, bit.band, bit.bnot, bit.lshift, bit.rshift
local call, pack, unpack = redis.call, cmsgpack.pack, unpack
local TIMED = 't'
local USERS, FEED, CHANNEL, DEADLINES, STATE, LEASES, LANES = 1, 2, 3, 4, 5, 6, 7

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lives(holder)
  local ends_ms = string.match(call('HGET', KEYS[LEASES], holder) or '', ':(%d+)$')
  return ends_ms ~= nil and tonumber(ends_ms) > now_ms()
end

-- Whether the lease of the holder of this number was ended, and so can't be renewed.
local function has_ended(holder, number)
  local its_number, ends_ms = string.match(call('HGET', KEYS[LEASES], holder) or '', '^(%d+):(-?%d+)$')
  return its_number == number and tonumber(ends_ms) <= 0
end

local function lease_lost()
  return redis.error_reply('LEASELOST the lease of this holder has ended')
end

local NONE = {}

-- Lua passes so many values at most to one call with room to spare.
local PORTION = 2000

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

local NEW = pack('0-0')

-- The two of a summary. A packed text of up to 31 bytes begins with 160 and its length.
local function version_and_counts(summary)
  local size = string.byte(summary) - 159
  return string.sub(summary, 1, size), string.sub(summary, size + 1)
end

-- The summary, then the records of users, false for none: in few calls.
local function records_of(at, users)
  local records = call('HMGET', KEYS[at + USERS], '', unpack(users, 1, math.min(#users, PORTION)))
  for start = PORTION + 1, #users, PORTION do
    local more = call('HMGET', KEYS[at + USERS], unpack(users, start, math.min(start + PORTION - 1, #users)))
    for i = 1, #more do records[start + i] = more[i] end
  end
  return records
end

local function under(found, key)
  local inner = found[key]
  if not inner then
    inner = {}
    found[key] = inner
  end
  return inner
end

-- A step takes a user from one record to another: here to the same but with these platforms on one
-- holder. Steps are remembered, because most users of a call take the same one.
local holdings = {}

local function step_to_hold(before, holder, low, high)
  local known = under(under(under(holdings, holder), before), low)
  if known[high] then return known[high] end
  local after = (low ~= 0 or high ~= 0) and holder .. ':' .. low .. (high ~= 0 and '.' .. high or '')
  for other, mask in pairs(read(before).holds) do
    if other ~= holder then
      local part = other .. ':' .. mask[1] .. (mask[2] ~= 0 and '.' .. mask[2] or '')
      after = after and after .. ',' .. part or part
    end
  end
  local was, is = read(before), read(after)
  local told = was.low ~= is.low or was.high ~= is.high
  known[high] = {after = after, stays = before == after, was = was, is = is, told = told}
  return known[high]
end

-- The first `count` of `values`.
local function call_all(command, key, values, count)
  local start = 1
  while count - start >= PORTION do
    call(command, key, unpack(values, start, start + PORTION - 1))
    start = start + PORTION
  end
  if count > 0 then call(command, key, unpack(values, start, count)) end
end

-- The platforms of a mask.
local function ids_of(low, high)
  local ids, id = {}, 1
  while low ~= 0 do
    if band(low, 1) ~= 0 then ids[#ids + 1] = id end
    low, id = rshift(low, 1), id + 1
  end
  id = 32
  while high ~= 0 do
    if band(high, 1) ~= 0 then ids[#ids + 1] = id end
    high, id = rshift(high, 1), id + 1
  end
  return ids
end

-- Which platforms a step brings a user to (1) and takes them from (-1), flat.
local function moves_of(step)
  if step.moves then return step.moves end
  local moves, was, is = {}, step.was, step.is
  for _, id in ipairs(ids_of(band(is.low, bnot(was.low)), band(is.high, bnot(was.high)))) do
    moves[#moves + 1], moves[#moves + 2] = id, 1
  end
  for _, id in ipairs(ids_of(band(was.low, bnot(is.low)), band(was.high, bnot(is.high)))) do
    moves[#moves + 1], moves[#moves + 2] = id, -1
  end
  step.moves = moves
  return moves
end

-- The counts of a summary after steps taken so many times.
local function count(counts, times)
  for step, taken in pairs(times) do
    local moves = moves_of(step)
    for i = 1, #moves, 2 do
      local from = 4 * moves[i] - 3
      if #counts < from + 3 then counts = counts .. string.rep('\0', from + 3 - #counts) end
      local now_on = struct.unpack('<i4', counts, from) + taken * moves[i + 1]
      counts = string.sub(counts, 1, from - 1) .. struct.pack('<i4', now_on) .. string.sub(counts, from + 4)
    end
  end
  return counts
end

-- What tells of a step that all users took, where nothing is told besides. Remembered with the step.
local function told_alone(step)
  local alone = step.alone
  if not alone then
    alone = pack({step.was.low, step.was.high, step.is.low, step.is.high}, {}, {}, {})
    step.alone = alone
  end
  return alone
end

-- What a feed entry tells: of each user whose step is to be told, which one they took.
-- `packed` and `causes` are the users and their causes as they came: mostly they can go on as they are.
local function tell(before, op_id, users, packed, causes, taken, times, told, logins, ended)
  -- An array of eight, whose last two are packed already.
  if #users == times[taken[1]] and #logins == 0 and #ended == 0 then
    return '\152' .. before .. op_id .. told_alone(taken[1]) .. packed .. causes
  end
  local steps, numbers, which = {}, {}, {}
  for step in pairs(times) do
    local n = #steps
    steps[n + 1], steps[n + 2], steps[n + 3], steps[n + 4] = step.was.low, step.was.high, step.is.low, step.is.high
    numbers[step] = n / 4
  end
  if #steps > 4 then
    for i = 1, #users do which[#which + 1] = numbers[taken[i]] end
  end
  if told < #users then
    local names, conns, backgrounds, causing = {}, {}, {}, cmsgpack.unpack(causes)
    for i = 1, #users do
      if taken[i].told then
        local n = #names + 1
        names[n], conns[n], backgrounds[n] = users[i], causing[1][i], causing[2][i]
      end
    end
    packed, causes = pack(names), pack({conns, backgrounds})
  end
  return '\152' .. before .. op_id .. pack(steps, which, logins, ended) .. packed .. causes
end

-- Packed: an array of two empty ones.
local NO_CAUSES = '\146\144\144'

-- One table serves all partitions, because to grow one costs more than to fill it: so they may hold more
-- than is counted.
local fresh, gone, times = {}, {}, {}

-- What is published: in the first place how many entries, then of each its head and body.
local entries = {''}

-- Has each user take a step from their record, and notes for `publish` whose union of holds changed and,
-- if given, what is to be told of logins and of ended tokens. A user is named once. The partition and the
-- operation ID are packed.
local function write(at, partition, users, records, packed, causes, taken, op_id, history, logins, ended)
  local n, going, told, fresh, gone = 0, 0, 0, fresh, gone
  local step, after, stays, since, head, body
  for one in pairs(times) do times[one] = nil end
  for i = 1, #users do
    -- Most often it is the same as that of the user before.
    if taken[i] ~= step then
      if step then times[step] = (times[step] or 0) + i - since end
      step, since = taken[i], i
      after, stays = step.after, step.stays
    end
    if not stays then
      if after then
        fresh[n + 1], fresh[n + 2] = users[i], after
        n = n + 2
      else
        going = going + 1
        gone[going] = users[i]
      end
    end
  end
  if step then times[step] = (times[step] or 0) + #users + 1 - since end
  for one, users_of_it in pairs(times) do
    if one.told then told = told + users_of_it else times[one] = nil end
  end
  logins, ended = logins or NONE, ended or NONE
  if told > 0 or #logins > 0 or #ended > 0 then
    local before, counts = version_and_counts(records[1] or NEW)
    body = tell(before, op_id, users, packed, causes, taken, times, told, logins, ended)
    counts = count(counts, times)
    local version = pack(call('XADD', KEYS[at + FEED], 'MAXLEN', '~', history, '*', 'c', body))
    fresh[n + 1], fresh[n + 2] = '', version .. counts
    n = n + 2
    -- An array of three.
    head = '\147' .. partition .. version
  end
  call_all('HSET', KEYS[at + USERS], fresh, n)
  call_all('HDEL', KEYS[at + USERS], gone, going)
  if body then
    entries[#entries + 1] = head
    entries[#entries + 1] = body
  end
end

-- Publishes what was written in all partitions, as one message: an array.
local function publish()
  if #entries == 1 then return end
  entries[1] = struct.pack('>BI2', 220, (#entries - 1) / 2)
  call('SPUBLISH', KEYS[CHANNEL], table.concat(entries))
end

-- What went wrong, as a reply. Redis 7.0 gives its own errors as text, which begins with their code.
local function error_of(what)
  if type(what) == 'table' then return what end
  return redis.error_reply(string.find(what, '^%u+ ') and what or 'ERR ' .. what)
end

-- Does this in each partition, told where its keys begin and which one it is, and publishes what was
-- written. Returns what each answers: one that fails is no other's loss. If all fail so does the call.
local function in_each_partition(keys_a_partition, work)
  local answers, failure, done = {}, nil, false
  for at = 0, #KEYS - 1, keys_a_partition do
    local went_well, answer = pcall(work, at, at / keys_a_partition)
    if went_well then
      done = true
    else
      failure = error_of(answer)
      answer = failure
    end
    answers[#answers + 1] = answer
  end
  publish()
  return done and answers or failure
end

-- The same for the one partition of a sweep, which nobody caused.
local function write_swept(partition, users, records, taken, op_id, history)
  write(0, pack(tonumber(partition)), users, records, pack(users), NO_CAUSES, taken, pack(op_id), history)
  publish()
end
