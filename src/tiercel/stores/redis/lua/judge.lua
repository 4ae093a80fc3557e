-- What has become of rows that another server keeps.
-- KEYS: control. ARGV: epoch, and for each row: when it was born, number of tags, the tags.
local head, floor = known(KEYS[1], ARGV[1])
if not head then
  return {'epoch'}
end
local verdicts, index = {}, 2
while index <= #ARGV do
  local row = {OURS, ARGV[1], tonumber(ARGV[index]), 0, 0, 1, 0, {}, {}}
  for at = index + 2, index + 1 + tonumber(ARGV[index + 1]) do
    row[TAGS][#row[TAGS] + 1] = ARGV[at]
  end
  verdicts[#verdicts + 1] = verdict(KEYS[1], row, ARGV[1], floor, 0)
  index = index + 2 + #row[TAGS]
end
return {'ok', head, verdicts}
