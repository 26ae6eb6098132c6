-- Makes OpenIM's key of a user say what the user's platforms are, and publishes them if they
-- are others than it said so far. Writing the same again only prolongs it.
-- KEYS  1 ONLINE:<user ID>
-- ARGV  1 seconds it is good for  2 user ID  then platform IDs

local now = tonumber(redis.call('TIME')[1])
local wanted, members, count = {}, {}, #ARGV - 2
for i = 3, #ARGV do
  wanted[ARGV[i]] = true
  members[#members + 1], members[#members + 2] = now + tonumber(ARGV[1]), ARGV[i]
end
-- A key of another type is no presence: nobody is online by it, and it is left alone until somebody is.
local found = redis.pcall('ZRANGEBYSCORE', KEYS[1], now, '+inf')
if found.err and count == 0 then return 0 end
local same = not found.err and #found == count
for _, platform in ipairs(found) do same = same and wanted[platform] end
redis.call('DEL', KEYS[1])
if count > 0 then
  redis.call('ZADD', KEYS[1], unpack(members))
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
if same then return 0 end
redis.call('PUBLISH', 'online_change', table.concat(ARGV, ':', 3) .. (count > 0 and ':' or '') .. ARGV[2])
return 1
