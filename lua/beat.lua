-- A host says that it lives, and hears which others do. Of no one sale; stands alone, without sale.lua in front.
--
-- KEYS  1 bx:hosts   hash: a host's id -> when it last said so, in ms, a space, and what it tells of itself (JSON)
-- ARGV  1 the host's id, 32 hexadecimal digits; empty to change nothing and only read
--       2 what it tells of itself; empty if it leaves
--       3 after how many ms of silence a host is forgotten
-- Reply a line a host: its id, how many ms ago it said so, what it tells
-- Invariant: one field a host. A host is no part of any sale: what is lost here is there again with the next beats.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, text, patience = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function note(id, what) redis.call('HSET', KEYS[1], id, string.format('%.0f ', now) .. what) end

if own ~= '' then
  if text == '' then redis.call('HDEL', KEYS[1], own) else note(own, text) end
end

local lines, seen, cursor = {}, {}, '0'
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 1000)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local id = page[2][i]
    local at, what = string.match(page[2][i + 1], '^(%d+) ([^\n]+)$')
    -- What somebody else has put here is left alone.
    if at and not seen[id] and #id == 32 and string.match(id, '^%x+$') then
      seen[id] = { tonumber(at), what }
    end
  end
until cursor == '0'

for id, told in pairs(seen) do
  local age = now - told[1]
  if age < 0 then
    -- It was told to a Redis whose clock was ahead of this one's. From here on it counts as told now.
    age = 0
    if text ~= '' then note(id, told[2]) end
  end
  if age > patience then
    if own ~= '' then redis.call('HDEL', KEYS[1], id) end
  else
    lines[#lines + 1] = id .. ' ' .. string.format('%.0f', age) .. ' ' .. told[2]
  end
end
return table.concat(lines, '\n')
