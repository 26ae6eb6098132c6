-- Removes what a dead holder holds for some users.
-- ARGV  1 operation ID  2 entries the feed keeps  3 holder number, then user IDs

read_all(ARGV, 4, 1)
for _, user in ipairs(order) do
  hold(touched[user], ARGV[3], 0, 0)
end
finish(ARGV[1], ARGV[2])
return 1
