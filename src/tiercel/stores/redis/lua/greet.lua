-- Which log this is. A server that was started since it was last greeted, or is another one, may lack cuts that were
-- acknowledged; one whose log ends before what is known lacks some. Then a new epoch begins, and nothing stored before is
-- of any use. Processes that are gone leave the list.
-- KEYS: control. ARGV: a name for a new epoch, the epoch that the caller knows, the last id that it knows of it.
local processes = KEYS[1] .. ':processes'
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
local noted = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'head', 'longest')
local holds = promises(KEYS[1])
local epoch, head, longest = noted[2], tonumber(noted[3] or 0), tonumber(noted[4] or DAY)
if noted[1] ~= run or not epoch or (epoch == ARGV[2] and head < tonumber(ARGV[3])) then
  epoch = ARGV[1]
  for _, promise in ipairs(holds) do
    head = math.max(head, promise[1])
  end
  redis.call('DEL', KEYS[1], KEYS[1] .. ':log', KEYS[1] .. ':ends', processes)
  redis.call('HSET', KEYS[1], 'run', run, 'epoch', epoch, 'head', text(head), 'longest', text(longest))
  if #holds > 0 then
    redis.call('HSET', KEYS[1], 'held', '1')
  end
end
local found, now = redis.call('HGETALL', processes), clock()
for index = 1, #found, 2 do
  if now - tonumber(string.match(found[index + 1], ' (%d+)$') or 0) > GONE then
    redis.call('HDEL', processes, found[index])
  end
end
return {epoch, head, longest, policy or '', holds}
