-- How far each process has come, and how long ago it said so.
-- KEYS: control. ARGV: epoch.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local now, answers = clock(), {}
local found = redis.call('HGETALL', KEYS[1] .. ':processes')
for index = 1, #found, 2 do
  local position, at = string.match(found[index + 1], '^(%d+) (%d+)$')
  if at and now - tonumber(at) <= GONE then
    answers[#answers + 1] = {found[index], tonumber(position), now - tonumber(at)}
  end
end
return {'ok', answers}
