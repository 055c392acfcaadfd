-- Reads bookings, and the sale as it is now: of no bookings, the sale alone.
--
-- KEYS  as in sale.lua
-- ARGV  the bookings, as they are stored
-- Reply a line a booking, in order: the booking, or `-`
-- Invariant: writes nothing; a hold that is over is told as expired, swept or not.

if not field[1] then return 'missing' end
lapse()
local reply = {}
if #ARGV > 0 then
  for i, record in ipairs(call('HMGET', KEYS[2], unpack(ARGV))) do reply[i] = line(record) end
end
return state() .. '\n' .. table.concat(reply, '\n')
