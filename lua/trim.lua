-- Removes from the log what every consumer group is done with: what it has read and acknowledged.
--
-- KEYS  as in sale.lua
-- ARGV  1 most entries to remove
-- Reply a line: how many groups there are, how many entries were removed (0: there is no more to remove) and how many
--       are left, with commas between
-- Invariant: an entry that some group has yet to read or to acknowledge stays. So does the last one, from which the
--       stream knows its highest id, and every one where there is no group: nobody has consumed anything then.

if refused then return refused end

-- The first entry that stays: the earliest that was asked to stay.
local keep_ms, keep_sequence
local function keep_from(id, further)
  local ms, seq = match(id, '^(%d+)-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq) + further
  if not keep_ms or ms < keep_ms or (ms == keep_ms and seq < keep_sequence) then
    keep_ms, keep_sequence = ms, seq
  end
end

local groups = call('EXISTS', KEYS[5]) == 1 and call('XINFO', 'GROUPS', KEYS[5]) or {}
for _, facts in ipairs(groups) do
  local group = {}
  for i = 1, #facts, 2 do group[facts[i]] = facts[i + 1] end
  -- Both: a group that was set back has pending entries beyond what it is to read again.
  keep_from(group['last-delivered-id'], 1)
  if group['pending'] > 0 then keep_from(call('XPENDING', KEYS[5], group['name'])[2], 0) end
end

local removed = 0
local last = call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
if last and #groups > 0 then
  keep_from(last[1], 0)
  local keep = format('%.0f-%.0f', keep_ms, keep_sequence)
  -- Whole nodes of the stream first, a bounded number; then what is left is less than a node.
  removed = call('XTRIM', KEYS[5], 'MINID', '~', keep, 'LIMIT', ARGV[1])
  if removed == 0 then removed = call('XTRIM', KEYS[5], 'MINID', keep) end
end
return state() .. '\n' .. table.concat({ #groups, removed, call('XLEN', KEYS[5]) }, ',')
