-- Store a variant, unless there is one that was born later; and give the lease back. In a cluster, what is there, if
-- that is as much as there may be: some of it may have been cut.
-- KEYS: rows, blobs, lease, control; in a cluster that is elsewhere.
-- ARGV: epoch, token, variant ('': none), and if there is one: its bytes, born, fresh, retain, cost, variants that a key
-- may have, number of tags, the tags, and name and digest of each selecting field.
if ARGV[2] ~= '' and redis.call('GET', KEYS[3]) == ARGV[2] then
  redis.call('DEL', KEYS[3])
end
local control = KEYS[4]
local head, floor = known(control, ARGV[1])
if not head then
  return {'epoch'}
end
local variant = ARGV[3]
if variant == '' then
  return {'ok'}
end

local now, last = clock(), 10 + tonumber(ARGV[10])
local row = {
  OURS, ARGV[1], tonumber(ARGV[5]), now, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), {}, {},
}
for index = 11, last do
  row[TAGS][#row[TAGS] + 1] = ARGV[index]
end
for index = last + 1, #ARGV, 2 do
  row[SELECTING][#row[SELECTING] + 1] = ARGV[index]
  row[SELECTING][#row[SELECTING] + 1] = ARGV[index + 1] ~= '' and ARGV[index + 1]
end
if verdict(control, row, ARGV[1], floor, now) == 'gone' then
  return {'ok'}
end

local there = redis.call('HGET', KEYS[1], variant)
local older = there and opened(there)
if older and older[BORN] > row[BORN] and verdict(control, older, ARGV[1], floor, now) ~= 'gone' then
  return {'ok'}
end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[9]) then
  local shelf, others = redis.call('HGETALL', KEYS[1]), {}
  for index = 1, #shelf, 2 do
    local other = opened(shelf[index + 1])
    if not other or verdict(control, other, ARGV[1], floor, now) == 'gone' then
      redis.call('HDEL', KEYS[1], shelf[index])
      redis.call('HDEL', KEYS[2], shelf[index])
    else
      others[#others + 1] = {shelf[index], other[BORN], other[TAGS]}
    end
  end
  if #others >= tonumber(ARGV[9]) then
    return control and {'ok'} or {'ok', others}
  end
end
redis.call('HSET', KEYS[1], variant, cmsgpack.pack(row))
redis.call('HSET', KEYS[2], variant, ARGV[4])
local retain = math.max(1, math.ceil(row[RETAIN] / 1000), redis.call('PTTL', KEYS[1]))
redis.call('PEXPIRE', KEYS[1], text(retain))
redis.call('PEXPIRE', KEYS[2], text(retain))
return {'ok'}
