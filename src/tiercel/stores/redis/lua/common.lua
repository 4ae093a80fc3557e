-- What several scripts share. Ids are integers below 2^53; times are microseconds of this server's clock.

local RECORDS = 10000 -- records that the log keeps at the least
local SLACK = 3600000 -- milliseconds that a cut is kept beyond the longest retention
local DAY = 86400000

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function text(id)
  return string.format('%.0f', id)
end

-- Head of the log, and the last cut of everything; nil if it is another epoch. Where the log is elsewhere: 0.
local function known(control, epoch)
  if not control then
    return 0, 0
  end
  local found = redis.call('HMGET', control, 'epoch', 'head', 'all')
  if found[1] ~= epoch then
    return nil
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

-- Append a cut to the log; no tags: of everything. Its id.
local function cut(control, tags, soft)
  local id = redis.call('HINCRBY', control, 'head', 1)
  local record = {}
  for _, tag in ipairs(tags) do
    record[#record + 1] = #tag .. ':' .. tag
  end
  redis.call('XADD', control .. ':log', 'MAXLEN', '~', RECORDS, text(id) .. '-0', 's', soft, 't', table.concat(record))
  if #tags == 0 then
    redis.call('HSET', control, 'all', text(id))
  end
  -- Cuts are beside the epoch, so that no server evicts them without it. They are let go of when they can hit nothing.
  local now, ends = math.floor(clock() / 1000), control .. ':ends'
  for _, tag in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', text(now), 'LIMIT', 0, 10 + #tags)) do
    redis.call('HDEL', control, 't:' .. tag)
    redis.call('ZREM', ends, tag)
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

-- What is stored of one variant, without its bytes; nil where that cannot be read.
local EPOCH, BORN, PUT_AT, FRESH, RETAIN, COST, TAGS, SELECTING = 1, 2, 3, 4, 5, 6, 7, 8

local function opened(packed)
  local read, row = pcall(cmsgpack.unpack, packed)
  if read and type(row) == 'table' and #row == SELECTING then
    return row
  end
  return nil
end

-- Whether it may still be used ('fine' or 'soft'), or not ('gone').
local function verdict(control, row, epoch, all, now)
  if row[EPOCH] ~= epoch or now - row[PUT_AT] >= row[RETAIN] or row[BORN] < all then
    return 'gone'
  end
  local found = 'fine'
  for _, tag in ipairs(row[TAGS]) do
    local hard, soft = cuts(control, tag)
    if row[BORN] < hard then
      return 'gone'
    end
    if row[BORN] < soft then
      found = 'soft'
    end
  end
  return found
end
