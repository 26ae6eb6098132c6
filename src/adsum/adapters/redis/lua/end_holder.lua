-- Removes what a holder whose lease was ended holds for some users.
-- ARGV  1 operation ID  2 entries the feed keeps  3 holder  4 its number
--       5 the holder that must live for that, or '', then user IDs
-- Errs with LEASELOST if that one does not. Nothing is done if the holder has another number,
-- or its lease has not ended: then a replica took over that knows nothing of the end.

if ARGV[5] ~= '' and not lives(ARGV[5]) then return lease_lost() end
if not has_ended(ARGV[3], ARGV[4]) then return 0 end
read_all(ARGV, 6, 1)
for _, user in ipairs(order) do
  hold(touched[user], ARGV[4], 0, 0)
end
finish(ARGV[1], ARGV[2])
return 1
