-- Removes what a holder whose lease was ended holds for some users.
-- ARGV  1 operation ID  2 entries the feed keeps  3 partition  4 holder  5 its number
--       6 the holder that must live for that, or '', then user IDs (each once)
-- Errs with LEASELOST if that one does not. Nothing is done if the holder has another number,
-- or its lease has not ended: then a replica took over that knows nothing of the end.

if ARGV[6] ~= '' and not lives(ARGV[6]) then return lease_lost() end
if not has_ended(ARGV[4], ARGV[5]) then return 0 end
local users, taken = {}, {}
for i = 7, #ARGV do users[i - 6] = ARGV[i] end
local records = records_of(0, users)
for i = 1, #users do taken[i] = step_to_hold(records[i + 1], ARGV[5], 0, 0) end
write_swept(ARGV[3], users, records, taken, ARGV[1], ARGV[2])
return 1
