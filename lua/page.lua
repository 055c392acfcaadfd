-- Reads one page of the bookings, in no particular order.
--
-- KEYS  as in sale.lua
-- ARGV  the cursor (`0` to start), about how many bookings
-- Reply the next cursor (`0` at the end), then a line a booking: as it is stored, a space, the booking. A zero byte
--       starts 17 bytes, of which any may be a space or a line's end.
-- Invariant: a booking that exists all the while is on some page (SCAN's promise), and may be on two; no tombstones.

if refused then return refused end
local page = call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
local reply = { state(), page[1] }
for i = 1, #page[2], 2 do
  local text = line(page[2][i + 1])
  if text ~= '-' then reply[#reply + 1] = page[2][i] .. ' ' .. text end
end
return table.concat(reply, '\n')
