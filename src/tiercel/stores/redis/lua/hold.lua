-- Promise a cut, which is made in so many microseconds if nobody has made it by then.
-- KEYS: control. ARGV: epoch, microseconds, token, the tags.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local tags = {}
for index = 4, #ARGV do
  tags[#tags + 1] = ARGV[index]
end
local promise = cmsgpack.pack({ARGV[3], tags})
redis.call('ZADD', KEYS[1] .. ':holds', text(clock() + tonumber(ARGV[2])), promise)
return {'ok', promise}
