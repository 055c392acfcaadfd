-- Cancels bookings and returns their tickets.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first, and what the caller has seen; then for each booking three: as it is stored,
--       its id as text where that differs (else ''), and `1` to leave a tombstone where there is no such booking (else `0`)
-- Reply a line a booking, in order: the booking, cancelled, or `-`; `withheld` alone where nothing was done (sale.lua)
-- Invariant: tickets are returned once; a cancelled or tombstoned id is never granted or confirmed again.

if refused then return refused end
local withheld = withhold(ARGV[1])
if withheld then return withheld end
sweep(ARGV[1])
local reply = {}
for i = 2, #ARGV, 3 do
  local booking, id = ARGV[i], ARGV[i + 1]
  if id == '' then id = booking end
  local record = call('HGET', KEYS[2], booking)
  local letter, quantity, deadline, terms, buyer = parts(record or 't')
  if deadline and deadline <= now then
    expire({ booking })
    letter = 'e'
  end
  if not record then
    if ARGV[i + 2] == '1' then call('HSET', KEYS[2], booking, 't') end
  elseif letter ~= 't' and letter ~= 'x' then
    record = 'x' .. terms
    log(id, 'cancelled', quantity, buyer, '')
    give_back(letter, quantity, deadline, buyer)
    call('HSET', KEYS[2], booking, record)
  end
  reply[#reply + 1] = line(record)
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
