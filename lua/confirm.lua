-- Makes held bookings confirmed.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first, and what the caller has seen; then for each booking two: as it is stored, and
--       its id as text where that differs (else '')
-- Reply a line a booking, in order: the booking as it is now, or `-`. Expired says that it could not be taken again, since
--       too few tickets are left; with `b` before it, since its buyer's limit forbids it.
--       `withheld` alone where nothing was done (sale.lua).
-- Invariant: an expired hold is confirmed only by taking its tickets again: held + sold + quantity <= total, and the
-- buyer's limit. A sale that is paused or over still takes payment for what was held.

if refused then return refused end
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
  local is_held, mark = letter == 'h' or letter == 'H', ''
  local fits = is_held or letter == 'e' and held + sold + quantity <= total
  if fits and not is_held and per_buyer and buyer ~= '' and tickets_of(buyer) + quantity > per_buyer then
    fits, mark = false, 'b'
  end
  if fits then
    if is_held then give_back(letter, quantity, deadline, buyer) end
    sold = sold + quantity
    local is_counted = counts and buyer ~= ''
    if is_counted then count(buyer, quantity, '', '') end
    record = (is_counted and 'C' or 'c') .. terms
    log(id, 'confirmed', quantity, buyer, '')
    call('HSET', KEYS[2], booking, record)
  end
  reply[#reply + 1] = mark .. line(record)
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
