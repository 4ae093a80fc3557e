-- Cut tags, or everything.
-- KEYS: control. ARGV: epoch, whether softly, the promise that this keeps ('': none), the tags.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
if ARGV[3] ~= '' then
  return {'ok', keep(KEYS[1], ARGV[3])}
end
local tags = {}
for index = 4, #ARGV do
  tags[#tags + 1] = ARGV[index]
end
return {'ok', cut(KEYS[1], tags, ARGV[2])}
