-- How far each process has come, and how long ago it said so; who has been silent for a minute is gone.
-- KEYS: control. ARGV: epoch.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local now, answers = clock(), {}
local found = redis.call('HGETALL', KEYS[1] .. ':processes')
for index = 1, #found, 2 do
  local position, at = string.match(found[index + 1], '^(%d+) (%d+)$')
  local age = now - tonumber(at or 0)
  if age > 60000000 then
    redis.call('HDEL', KEYS[1] .. ':processes', found[index])
  else
    answers[#answers + 1] = {found[index], tonumber(position), age}
  end
end
return {'ok', answers}
