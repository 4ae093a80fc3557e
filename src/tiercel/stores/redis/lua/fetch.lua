-- Find what is stored, or grant the lease to produce it.
-- KEYS: rows, blobs, lease, control; in a cluster that is elsewhere, and what is found is still to be judged.
-- ARGV: epoch, above, early, milliseconds of the lease (0: none wanted), token, and name and digest of each request field.
local control = KEYS[4]
local head, floor = known(control, ARGV[1])
if not head then
  return {'epoch'}
end
local above, early, lease, token = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local now, fields = clock(), {}
for index = 6, #ARGV, 2 do
  fields[ARGV[index]] = ARGV[index + 1]
end

local kept, names, gone, unreadable = {}, {}, {}, 0
local shelf = redis.call('HGETALL', KEYS[1])
for index = 1, #shelf, 2 do
  local row = opened(shelf[index + 1])
  local found = row and verdict(control, row, ARGV[1], floor, now) or 'gone'
  if found == 'gone' then
    gone[#gone + 1] = shelf[index]
    unreadable = unreadable + (row and 0 or 1)
  else
    local fits = row[BORN] > above
    for at = 1, #row[SELECTING], 2 do
      local name, digest = row[SELECTING][at], row[SELECTING][at + 1]
      names[name] = true
      fits = fits and (fields[name] or false) == digest
    end
    if fits then
      kept[#kept + 1] = {variant = shelf[index], row = row, soft = found == 'soft', age = math.max(0, now - row[PUT_AT])}
    end
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
  redis.call('HDEL', KEYS[2], unpack(gone))
end
table.sort(kept, function(one, other) return one.row[PUT_AT] > other.row[PUT_AT] end)

local answers, due = {}, true
for _, one in ipairs(kept) do
  local row, blob = one.row, redis.call('HGET', KEYS[2], one.variant)
  if blob then
    if not one.soft and one.age + row[COST] * early < row[FRESH] and one.age < row[FRESH] then
      due = false
    end
    answers[#answers + 1] = {
      one.age, one.soft and 1 or 0, row[BORN], row[FRESH], row[RETAIN], row[COST], row[TAGS], row[SELECTING], blob,
    }
  end
end

local granted, wait = 0, 0
if due then
  wait = math.max(0, redis.call('PTTL', KEYS[3]))
  if wait == 0 and lease > 0 then
    redis.call('SET', KEYS[3], token, 'PX', lease)
    granted = 1
  end
end
local list = {}
for name in pairs(names) do
  list[#list + 1] = name
end
return {'ok', head, granted, wait, unreadable, list, answers}
