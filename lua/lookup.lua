-- Reads bookings, and the sale as it is now: of no bookings, the sale alone.
--
-- KEYS  as in sale.lua
-- ARGV  the bookings, as they are stored
-- Reply a line a booking, in order: the booking, or `-`
-- Of no bookings it also looks at what every key is, as nobody does who books.
-- Invariant: writes nothing; a hold that is over is told as expired, swept or not.

if refused then return refused end
if #ARGV == 0 then
  for i, kind in ipairs({ 'hash', 'hash', 'zset', 'hash', 'stream', 'hash', 'hash' }) do
    local its = call('TYPE', KEYS[i]).ok
    if its ~= kind and its ~= 'none' then return redis.error_reply('UNSOUND ' .. KEYS[i] .. ' is not a ' .. kind) end
  end
end
lapse()
local reply = {}
if #ARGV > 0 then
  for i, record in ipairs(call('HMGET', KEYS[2], unpack(ARGV))) do reply[i] = line(record) end
end
return state() .. '\n' .. table.concat(reply, '\n')
