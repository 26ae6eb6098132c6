-- Forgets a holder whose holds are removed, if its lease was ended in this past.
-- ARGV  1 holder  2 its number

if not has_ended(ARGV[1], ARGV[2]) then return 0 end
call('HDEL', KEYS[LEASES], ARGV[1])
for _, lane in ipairs(call('HKEYS', KEYS[LANES])) do
  if string.sub(lane, 1, #ARGV[2] + 1) == ARGV[2] .. ':' then call('HDEL', KEYS[LANES], lane) end
end
return 1
