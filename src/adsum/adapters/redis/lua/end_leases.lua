-- Ends the lease named, or if none is, those that are over. Returns holder, number, for
-- each whose holds are still to be removed; false if others have just looked for those that
-- are over. A lease once ended can't be renewed.
-- ARGV  1 the holder to end now, or ''  2 the holder that must live for that, or ''
--       3 ms within which nobody looks again for those that are over
-- Errs with LEASELOST if that one does not.
--
-- An ended lease ends at 0, or once it has been returned, at -(unix ms of that).

local REMOVING_MS = 5000 -- what a node is given for the removal before another may begin it too

if ARGV[2] ~= '' and not lives(ARGV[2]) then return lease_lost() end
local found, now = {}, now_ms()
if ARGV[1] == '' then
  -- Every node asks, and one look at the leases of all is enough: else the work would grow with
  -- the square of the number of nodes. (A clock that stepped back is no reason to wait.)
  local since = now - tonumber(call('HGET', KEYS[STATE], 's') or 0)
  if since >= 0 and since < tonumber(ARGV[3]) then return false end
  call('HSET', KEYS[STATE], 's', string.format('%.0f', now))
end
local all = call('HGETALL', KEYS[LEASES])
for i = 1, #all, 2 do
  local holder = all[i]
  local number, ends_ms = string.match(all[i + 1], '^(%d+):(-?%d+)$')
  ends_ms = tonumber(ends_ms)
  local returned_ms = ends_ms < 0 and now + ends_ms or nil
  local removing = returned_ms and returned_ms >= 0 and returned_ms < REMOVING_MS
  if holder == ARGV[1] or (ARGV[1] == '' and ends_ms <= now and not removing) then
    call('HSET', KEYS[LEASES], holder, string.format('%s:-%.0f', number, now))
    found[#found + 1], found[#found + 2] = holder, number
  end
end
return found
