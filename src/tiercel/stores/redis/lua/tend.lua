-- Keep the promises that are due, and note how far a process has come. The end of the log: whoever reads on gets there.
-- KEYS: control. ARGV: epoch, name of the process, its position.
local head = known(KEYS[1], ARGV[1])
if not head or head < tonumber(ARGV[3]) then
  return {'epoch'}
end
local now, processes = clock(), KEYS[1] .. ':processes'
for _, promise in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. ':holds', '-inf', text(now), 'LIMIT', 0, 100)) do
  keep(KEYS[1], promise)
end
-- A script that has begun to write is not stopped for want of memory: a server that is full does not fence anybody.
redis.call('HDEL', processes, ARGV[2])
redis.call('HSET', processes, ARGV[2], ARGV[3] .. ' ' .. text(now))
return {'ok', tonumber(redis.call('HGET', KEYS[1], 'head') or 0)}
