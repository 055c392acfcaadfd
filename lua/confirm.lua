-- Makes held bookings confirmed.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first, and what the caller has seen; then for each booking two: as it is stored, and its id as text where that
--       differs (else '')
-- Reply a line a booking, in order: the booking as it is now, or `-`. Expired says that it could not be taken again, since
--       too few tickets are left; with `b` before it, since its buyer's limit forbids it.
--       `withheld` alone where nothing was done (sale.lua).
-- Invariant: an expired hold is confirmed only by taking its tickets again: held + sold + quantity <= total, and the
-- buyer's limit. A sale that is paused or over still takes payment for what was held.

if not field[1] then return 'missing' end
local withheld = withhold(ARGV[1])
if withheld then return withheld end
sweep(ARGV[1])
local reply = {}
for i = 2, #ARGV, 2 do
  local booking, id = ARGV[i], ARGV[i + 1]
  if id == '' then id = booking end
  local record = call('HGET', KEYS[2], booking)
  local letter, quantity, deadline, terms, buyer = parts(record or 't')
  if deadline and deadline <= now then
    expire({ booking })
    letter, record = 'e', 'e' .. terms
  end
  local confirmed, mark = nil, ''
  if letter == 'h' or letter == 'H' then
    held = held - quantity
    confirmed = letter == 'H' and 'C' or 'c'
  elseif letter == 'e' and held + sold + quantity <= total then
    if not per_buyer or buyer == '' then
      confirmed = 'c'
    elseif tickets_of(buyer) + quantity <= per_buyer then
      confirmed = 'C'
    else
      mark = 'b'
    end
  end
  if confirmed then
    record = confirmed .. terms
    log(id, 'confirmed', quantity, buyer, '')
    sold = sold + quantity
    call('HSET', KEYS[2], booking, record)
    if confirmed == 'C' and letter == 'e' then count(buyer, quantity) end
  end
  reply[#reply + 1] = mark .. line(record)
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
