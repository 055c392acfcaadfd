-- A host says that it lives, and hears which others do. Of no one sale; stands alone, without sale.lua in front.
--
-- KEYS  1 bx:hosts   hash: a host's id -> when it last said so, in ms, a space, and what it tells of itself (JSON)
-- ARGV  1 the host's id, 32 hexadecimal digits; empty to change nothing and only read
--       2 what it tells of itself; empty if it leaves
--       3 after how many ms of silence a host is forgotten; empty to forget none
-- Reply the time in ms, then two lines a host, as they are stored: its id, and what belongs to it
-- Invariant: one field a host. A host is no part of any sale: what is lost here is there again with the next beats.
--
-- Every host asks this twice a second and more, so that it costs what all of them together cost twice over: what can be
-- found out by the hosts is left to them.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, text, patience = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function note(id, what) redis.call('HSET', KEYS[1], id, string.format('%.0f ', now) .. what) end

if own ~= '' then
  if text == '' then redis.call('HDEL', KEYS[1], own) else note(own, text) end
end

-- Those that nobody has heard of for so long. Who said so to a Redis whose clock was ahead of this one's has said so now. What
-- somebody else has put here is left alone.
local function forget(fields)
  for i = 1, #fields, 2 do
    local id = fields[i]
    local at, what = string.match(fields[i + 1], '^(%d+) ({[^\n]+)$')
    if at and #id == 32 and string.match(id, '^%x+$') then
      if tonumber(at) > now then note(id, what) end
      if now - tonumber(at) > patience then redis.call('HDEL', KEYS[1], id) end
    end
  end
end

local lines, cursor = { string.format('%.0f', now) }, '0'
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 1000)
  cursor = page[1]
  if patience then forget(page[2]) end
  lines[#lines + 1] = table.concat(page[2], '\n')
until cursor == '0'
return table.concat(lines, '\n')
