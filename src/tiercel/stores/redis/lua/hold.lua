-- Cut tags, and hold them; they are cut again in so many microseconds if nobody has done it by then.
-- KEYS: control. ARGV: epoch, microseconds, the tags.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local tags = {}
for index = 3, #ARGV do
  tags[#tags + 1] = ARGV[index]
end
local id = cut(KEYS[1], tags, '0', 'h', '1')
local promise = cmsgpack.pack({id, tags})
redis.call('HSET', KEYS[1], 'held', '1')
redis.call('ZADD', KEYS[1] .. ':holds', text(clock() + tonumber(ARGV[2])), promise)
return {'ok', id, promise}
