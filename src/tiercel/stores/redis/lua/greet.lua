-- Which log this is. A server that was started since it was last greeted, or is another one, may lack cuts that were
-- acknowledged: then a new epoch begins, and nothing stored before is of any use.
-- KEYS: control. ARGV: a name for a new epoch.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
local known = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'head', 'longest')
if known[1] ~= run or not known[2] then
  redis.call('HSET', KEYS[1], 'run', run, 'epoch', ARGV[1])
  known[2] = ARGV[1]
end
return {known[2], known[3] or '0', known[4] or text(DAY), policy or ''}
