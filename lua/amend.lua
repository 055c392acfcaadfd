-- Changes bookings, each as it is asked for: extends a hold, gives back some of the tickets, holds again what is expired,
-- gives it to another buyer.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first, and what the caller has seen; then for each booking four: as it is stored, its
--       id as text where that differs (else ''), and what is asked:
--         extend ms     the hold is to end no earlier than so long from now
--         release n     so many tickets are to remain
--         hold ''       an expired booking is to be held again
--         buyer name    it is to be that buyer's; '' for nobody's
-- Reply a line a booking, in order: the booking as it is now, whether that changed anything or not; `-` where there is none;
--       or what speaks against it, and nothing was done: `!c` it is confirmed, `!x` cancelled, `!e` expired, `!l` beyond the
--       longest hold, `!r` it has fewer tickets, `!n` not on sale, `!q` no buyer, and the sale demands one, `!b` beyond the
--       buyer's limit, `!s` sold out. `withheld` alone where nothing was done (sale.lua).
-- Invariant: the same again changes nothing. Tickets are taken only for an expired booking that is held again: where
-- held + sold + quantity <= total, within the buyer's limit and while the sale sells, as those of a new one are. A deadline
-- is never earlier than it was, and a booking never has more tickets. Those of one that gets another buyer count for that
-- one alone, within its limit.

if refused then return refused end
local withheld = withhold(ARGV[1])
if withheld then return withheld end
sweep(ARGV[1])

-- What becomes of a record that is asked this: letter, quantity, deadline and how long it is held by then, and whose it is
-- if that changes; or the reply.
local asks = {}

function asks.extend(letter, quantity, deadline, length, ms)
  if letter ~= 'h' then return '!' .. letter end
  local wanted = now + ms
  if wanted <= deadline then return end
  -- It began so long before its deadline. Those made before the sale had a longest hold do not say.
  length = (length or hold or 0) + wanted - deadline
  if length > (hold_max or 0) then return '!l' end
  return letter, quantity, wanted, length
end

function asks.release(letter, quantity, deadline, length, remaining)
  if letter ~= 'h' and letter ~= 'c' then return '!' .. letter end
  remaining = tonumber(remaining)
  if remaining > quantity then return '!r' end
  if remaining < quantity then return letter, remaining, deadline, length end
end

function asks.hold(letter, quantity, _, _, _, buyer)
  if letter == 'h' then return end
  if letter ~= 'e' then return '!' .. letter end
  if status ~= 'open' or now < (starts or 0) or now >= (ends or math.huge) then return '!n' end
  if buyer_required == '1' and buyer == '' then return '!q' end
  if per_buyer and buyer ~= '' and tickets_of(buyer) + quantity > per_buyer then return '!b' end
  if held + sold + quantity > total then return '!s' end
  if not hold then return 'c', quantity end
  return 'h', quantity, now + hold, hold_max and hold
end

function asks.buyer(letter, quantity, deadline, length, new, buyer)
  if letter ~= 'h' and letter ~= 'c' then return '!' .. letter end
  if new == buyer then return end
  if buyer_required == '1' and new == '' then return '!q' end
  if per_buyer and new ~= '' and tickets_of(new) + quantity > per_buyer then return '!b' end
  return letter, quantity, deadline, length, new
end

local reply = {}
for i = 2, #ARGV, 4 do
  local booking, id = ARGV[i], ARGV[i + 1]
  if id == '' then id = booking end
  local record = call('HGET', KEYS[2], booking)
  local was, quantity, deadline, terms, buyer, length, moves = parts(record or 't')
  if deadline and deadline <= now then
    expire({ booking })
    was, record = 'e', 'e' .. terms
  end
  local answer = '-'
  if was ~= 't' then
    local letter, remaining, ends_at, its_length, new =
      asks[ARGV[i + 2]](string.lower(was), quantity, deadline, length, ARGV[i + 3], buyer)
    if letter and #letter == 2 then
      answer = letter
    else
      if letter then
        local is_held, before = letter == 'h', buyer
        if new then buyer, moves = new, moves + 1 end
        log(id, is_held and 'held' or 'confirmed', remaining, buyer, is_held and format('%.0f', ends_at) or '')
        give_back(was, quantity, deadline, before)
        local is_counted = counts and buyer ~= ''
        local amount = match(terms, '^[%d/]+')
        if remaining < quantity then amount = remaining .. '/' .. (match(amount, '/(%d+)') or amount) end
        record = (is_counted and string.upper(letter) or letter) .. amount
        if is_held then
          held = held + remaining
          owe(ends_at, remaining)
          if ends_at ~= deadline then
            -- A group of its own, which moves; what it leaves behind may be over, and not swept.
            local group = booking .. ' '
            local before = tonumber(call('ZSCORE', KEYS[3], group) or '')
            if before and before <= lapsed then forget_spans({ [before] = true }) end
            hold_until(ends_at, group)
          end
          if is_counted then count(buyer, 0, '', held_until(ends_at, remaining)) end
          record = record .. format('@%.0f', ends_at) .. (its_length and format('-%.0f', its_length) or '')
        else
          sold = sold + remaining
          if is_counted then count(buyer, remaining, '', '') end
        end
        record = record .. owner(buyer, moves)
        call('HSET', KEYS[2], booking, record)
      end
      answer = line(record)
    end
  end
  reply[#reply + 1] = answer
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
