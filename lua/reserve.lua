-- Books tickets: the hot path, one call for a whole batch.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first; then for each claim four: the booking as it is stored, its id as text
--       where that differs (else ''), quantity, buyer ('' for none). At most 1,000 claims (Lua's stack).
-- Reply a line a claim, in order: `g` granted, with its deadline where the sale has a hold; `k` and the booking, known
--       with the same quantity and buyer; `t` a tombstone; `r` known with another quantity or buyer; `n` not on sale;
--       `b` beyond the buyer's limit; `s` sold out.
-- Invariant: stock is taken only where held + sold + quantity <= total, and once for each booking.

if not field[1] then return 'missing' end
sweep(ARGV[1])

-- A group is expired whole, so that it must be well below the most that one call expires.
local GROUP_MAX = 64

local bookings, buyers, count = {}, {}, 0
for i = 2, #ARGV, 4 do
  count = count + 1
  bookings[count], buyers[count] = ARGV[i], ARGV[i + 3]
end
local records = count > 0 and call('HMGET', KEYS[2], unpack(bookings)) or {}

-- Tickets of each buyer of this batch, kept while it is worked through.
local tickets_of, limited = {}, {}
if per_buyer and count > 0 then
  local tickets = call('HMGET', KEYS[4], unpack(buyers))
  for i = 1, count do tickets_of[buyers[i]] = tonumber(tickets[i]) or 0 end
end

local on_sale = status == 'open' and now >= (starts or 0) and now < (ends or math.huge)
local word, letter, counted, expires_at, mark = 'confirmed', 'c', 'C', '', ''
if hold then
  word, letter, counted, expires_at = 'held', 'h', 'H', format('%.0f', now + hold)
  mark = '@' .. expires_at
end
local granted_line = 'g' .. expires_at

local left = total - held - sold
local reply, new, n, taken = {}, {}, 0, 0
local granted = {}
for i = 1, count do
  local booking, id, quantity_text, buyer = bookings[i], ARGV[4 * i - 1], ARGV[4 * i], buyers[i]
  local record = granted[booking] or records[i]
  if record then
    if record == 't' then
      reply[i] = 't'
    else
      local _, _, _, terms = parts(record)
      local same = terms == (buyer == '' and quantity_text or quantity_text .. ':' .. buyer)
      reply[i] = same and 'k' .. line(record) or 'r'
    end
  elseif not on_sale then
    reply[i] = 'n'
  else
    local quantity = tonumber(quantity_text)
    local of_buyer = buyer ~= '' and tickets_of[buyer]
    if of_buyer and of_buyer + quantity > per_buyer then
      reply[i] = 'b'
    elseif quantity > left then
      reply[i] = 's'
    else
      reply[i] = granted_line
      left = left - quantity
      taken = taken + quantity
      log(id == '' and booking or id, word, quantity_text, buyer, expires_at)
      record = (of_buyer and counted or letter) .. quantity_text .. mark
      if buyer ~= '' then record = record .. ':' .. buyer end
      if of_buyer then
        tickets_of[buyer] = of_buyer + quantity
        limited[buyer] = true
      end
      granted[booking] = record
      new[n + 1], new[n + 2] = booking, record
      n = n + 2
    end
  end
end

if n > 0 then
  if hold then
    held = held + taken
    for first = 1, n, 2 * GROUP_MAX do
      local group = {}
      for i = first, math.min(n, first + 2 * GROUP_MAX - 1), 2 do group[#group + 1] = new[i] end
      call('ZADD', KEYS[3], expires_at, table.concat(group, ' ') .. ' ')
    end
  else
    sold = sold + taken
  end
  if next(limited) then
    local changed = {}
    for buyer in pairs(limited) do
      changed[#changed + 1] = buyer
      changed[#changed + 1] = tickets_of[buyer]
    end
    call('HSET', KEYS[4], unpack(changed))
  end
  call('HSET', KEYS[2], unpack(new))
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
