-- Reads the log after a sequence, oldest first.
--
-- KEYS  as in sale.lua
-- ARGV  1 the sequence; 2 most entries
-- Reply a line an entry: sequence, ms, status, quantity, buyer, deadline, id, with commas between
-- Invariant: sequences and times rise together, so that bisecting the times finds a sequence.

if refused then return refused end
local after, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Milliseconds and sequence of the first entry from `start` on; nil where there is none.
local function first_from(start)
  local entry = call('XRANGE', KEYS[5], start, '+', 'COUNT', 1)[1]
  if not entry then return nil end
  local ms, seq = match(entry[1], '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local entries = {}
if sequence > after and sequence - after <= limit then
  -- Whoever follows the log asks for its end.
  local newest_first = call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', sequence - after)
  for i = #newest_first, 1, -1 do entries[#entries + 1] = newest_first[i] end
elseif sequence > after then
  local start = '-'
  local low, seq = first_from('-')
  if low and seq <= after then
    -- The latest ms whose first entry is not beyond the one sought is that entry's.
    local high = now + 1
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      local _, seq = first_from(format('%.0f', middle))
      if seq and seq <= after + 1 then low = middle else high = middle end
    end
    start = format('%.0f-%.0f', low, after + 1)
  end
  entries = call('XRANGE', KEYS[5], start, '+', 'COUNT', limit)
end

local reply = { state() }
for i, entry in ipairs(entries) do
  local ms, seq = match(entry[1], '^(%d+)-(%d+)$')
  local value = entry[2]
  reply[i + 1] = table.concat({ seq, ms, value[4], value[6], value[8], value[10] or '', value[2] }, ',')
end
return table.concat(reply, '\n')
