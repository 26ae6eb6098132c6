-- Removes what a dead holder holds for some users.
-- ARGV  1 operation ID  2 entries the feed keeps  3 holder number, then user IDs

for i = 4, #ARGV do
  hold(open(ARGV[i]), ARGV[3], 0, 0)
end
finish(ARGV[1], ARGV[2])
return 1
