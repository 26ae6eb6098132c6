-- The version, then the record of each user (false if there is none).
-- ARGV  user IDs

local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
table.insert(found, 1, redis.call('HGET', KEYS[2], 'v') or '0-0')
return found
