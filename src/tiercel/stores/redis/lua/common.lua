-- What several scripts share. Ids are integers below 2^53; times are microseconds of this server's clock.

local RECORDS = 10000 -- records that the log keeps at the least
local SLACK = 3600000 -- milliseconds that a cut is kept beyond the longest retention
local DAY = 86400000
local GONE = 60000000 -- microseconds: a process that has been silent for longer is gone

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function text(id)
  return string.format('%.0f', id)
end

-- The tags that are held, once somebody has asked.
local held

-- Head of the log, and its floor: what was born before that is cut. nil if it is another epoch; where the log is
-- elsewhere, 0.
local function known(control, epoch)
  if not control then
    return 0, 0
  end
  local found = redis.call('HMGET', control, 'epoch', 'head', 'floor', 'held')
  if found[1] ~= epoch then
    return nil
  end
  if not found[4] then
    held = {} -- nearly always: whoever judges a row need not look
  end
  return tonumber(found[2] or 0), tonumber(found[3] or 0)
end

-- The ids of the last hard and the last soft cut of a tag.
local function cuts(control, tag)
  if not control then
    return 0, 0
  end
  local found = redis.call('HGET', control, 't:' .. tag)
  if not found then
    return 0, 0
  end
  local hard, soft = string.match(found, '^(%d+) (%d+)$')
  return tonumber(hard) or 0, tonumber(soft) or 0
end

-- The promises that are not kept: for each the id of the cut that began it, and the tags that it holds.
local function promises(control)
  local found = {}
  for _, promise in ipairs(redis.call('ZRANGE', control .. ':holds', 0, -1)) do
    local kept = cmsgpack.unpack(promise)
    found[#found + 1] = {tonumber(kept[1]) or 0, kept[2]}
  end
  return found
end

-- Whether a tag is held: somebody is about to change it, and nothing that is made of it may be used.
local function is_held(control, tag)
  if not control then
    return false
  end
  if not held then
    held = {}
    for _, promise in ipairs(promises(control)) do
      for _, name in ipairs(promise[2]) do
        held[name] = true
      end
    end
  end
  return held[tag]
end

-- Append a cut to the log; no tags: of everything. Its id. It may hold the tags ('h'), or release those of a promise ('r').
local function cut(control, tags, soft, ...)
  local id = redis.call('HINCRBY', control, 'head', 1)
  local record = {}
  for _, tag in ipairs(tags) do
    record[#record + 1] = #tag .. ':' .. tag
  end
  redis.call('XADD', control .. ':log', 'MAXLEN', '~', RECORDS, text(id) .. '-0', 's', soft, 't', table.concat(record), ...)
  -- Cuts are beside the epoch, so that no server evicts them without it. They are let go of when they should hit nothing
  -- any more; what is stored all the same, later than anybody thought, is below the floor that they leave behind.
  local now, ends, floor = math.floor(clock() / 1000), control .. ':ends', #tags == 0 and id or 0
  for _, tag in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', text(now), 'LIMIT', 0, 10 + #tags)) do
    floor = math.max(floor, cuts(control, tag))
    redis.call('HDEL', control, 't:' .. tag)
    redis.call('ZREM', ends, tag)
  end
  if floor > tonumber(redis.call('HGET', control, 'floor') or 0) then
    redis.call('HSET', control, 'floor', text(floor))
  end
  local last = now + tonumber(redis.call('HGET', control, 'longest') or DAY) + SLACK
  for _, tag in ipairs(tags) do
    local hard, softly = cuts(control, tag)
    if soft == '1' then
      softly = id
    else
      hard = id
    end
    redis.call('HSET', control, 't:' .. tag, text(hard) .. ' ' .. text(softly))
    redis.call('ZADD', ends, text(last), tag)
  end
  return id
end

-- Make the cut that was promised.
local function keep(control, promise)
  local kept = cmsgpack.unpack(promise)
  redis.call('ZREM', control .. ':holds', promise)
  if redis.call('ZCARD', control .. ':holds') == 0 then
    redis.call('HDEL', control, 'held')
  end
  return cut(control, kept[2], '0', 'r', text(tonumber(kept[1]) or 0))
end

-- What is stored of one variant, without its bytes.
local SHAPE, EPOCH, BORN, PUT_AT, FRESH, RETAIN, COST, TAGS, SELECTING = 1, 2, 3, 4, 5, 6, 7, 8, 9
local OURS = 1 -- the number of this shape: a release that changes it counts on
local LARGEST = 1e16 -- number in a row

-- Whether it is a list of strings, of which every second one may be absent.
local function is_list(list, absent)
  if type(list) ~= 'table' then
    return false
  end
  for at, item in ipairs(list) do
    if type(item) ~= 'string' and not (absent and item == false and at % 2 == 0) then
      return false
    end
  end
  return true
end

-- A row; nil where it cannot be read: another release's, or garbage.
local function opened(packed)
  local read, row = pcall(cmsgpack.unpack, packed)
  if not read or type(row) ~= 'table' or row[SHAPE] ~= OURS or type(row[EPOCH]) ~= 'string' then
    return nil
  end
  for at = BORN, COST do
    if type(row[at]) ~= 'number' or not (row[at] >= 0 and row[at] <= LARGEST) then
      return nil
    end
  end
  if is_list(row[TAGS]) and is_list(row[SELECTING], true) and #row[SELECTING] % 2 == 0 then
    return row
  end
  return nil
end

-- Whether it may still be used ('fine' or 'soft'), or not ('gone').
local function verdict(control, row, epoch, floor, now)
  if row[EPOCH] ~= epoch or now - row[PUT_AT] >= row[RETAIN] or row[BORN] < floor then
    return 'gone'
  end
  local found = 'fine'
  for _, tag in ipairs(row[TAGS]) do
    local hard, soft = cuts(control, tag)
    if row[BORN] < hard or is_held(control, tag) then
      return 'gone'
    end
    if row[BORN] < soft then
      found = 'soft'
    end
  end
  return found
end
