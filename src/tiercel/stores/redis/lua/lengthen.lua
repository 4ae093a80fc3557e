-- Say that something is going to be kept for longer than anything before, so that cuts are kept for as long.
-- KEYS: control. ARGV: epoch, milliseconds.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local longest = math.max(tonumber(redis.call('HGET', KEYS[1], 'longest') or DAY), math.min(tonumber(ARGV[2]), 1e13))
redis.call('HSET', KEYS[1], 'longest', text(longest))
return {'ok', longest, tonumber(redis.call('HGET', KEYS[1], 'head') or 0)}
