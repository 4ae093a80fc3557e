-- Grant the lease to produce something, unless somebody has it.
-- KEYS: lease. ARGV: token, milliseconds.
local wait = math.max(0, redis.call('PTTL', KEYS[1]))
if wait > 0 then
  return {'ok', 0, wait}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'ok', 1, 0}
