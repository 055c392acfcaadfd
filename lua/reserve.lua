-- Books tickets: the hot path, one call for a whole batch.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first, and what the caller has seen (sale.lua)
--       2 where no booking is in the batch twice, none has a buyer, and all are for as many tickets: how many; else ''
--       then, one column after another, of each claim: the booking as it is stored; its id as text where that differs
--       (else ''); and without such a 2: quantity; buyer; the buyer's bucket ('' for none). At most 1,000 claims (Lua's
--       stack).
-- Reply a line a claim, in order: `g` granted, with its deadline where the sale has a hold; `k` and the booking, known
--       with the same quantity and buyer; `t` a tombstone; `r` known with another quantity or buyer; `n` not on sale;
--       `q` no buyer, and the sale demands one; `b` beyond the buyer's limit; `s` sold out. `withheld` alone: nothing done.
-- Invariant: stock is taken only where held + sold + quantity <= total, and once for each booking.

if refused then return refused end
local withheld = withhold(ARGV[1])
if withheld then return withheld end
sweep(ARGV[1])

-- A group is expired whole, so that it must be well below the most that one call expires.
local GROUP_MAX = 64

-- Where each column begins, less one.
local argv = ARGV
local alike = argv[2] ~= '' and argv[2]
local claims = (#argv - 2) / (alike and 2 or 5)
local texts, quantities, buyers, fields = 2 + claims, 2 + 2 * claims, 2 + 3 * claims, 2 + 4 * claims
local records = claims > 0 and call('HMGET', KEYS[2], unpack(argv, 3, texts)) or {}

-- The buckets of this batch's buyers, kept while it is worked through, and those of them that changed.
local buckets, counted_in = {}, {}
if counts and claims > 0 and not alike then
  local stored = call('HMGET', KEYS[4], unpack(argv, fields + 1, fields + claims))
  for i = 1, claims do buckets[argv[fields + i]] = stored[i] or '' end
end

local on_sale = status == 'open' and now >= (starts or 0) and now < (ends or math.huge)
local word, letter, counted, expires_at, mark = 'confirmed', 'c', 'C', '', ''
if hold then
  word, letter, counted, expires_at = 'held', 'h', 'H', format('%.0f', now + hold)
  mark = '@' .. expires_at .. (hold_max and '-' .. hold or '')
end
local hold_mark = counts and hold and stamp(now + hold)
local granted_line = 'g' .. expires_at

local left = total - held - sold
local reply, new, n, taken = {}, {}, 0, 0
local granted = not alike and {}
for i = 1, claims do
  local booking, quantity_text, buyer = argv[2 + i], alike, ''
  local record = records[i]
  if not alike then
    quantity_text, buyer = argv[quantities + i], argv[buyers + i]
    record = record or granted[booking]
  end
  if record then
    if record == 't' then
      reply[i] = 't'
    else
      local _, _, _, terms = parts(record)
      local wanted = buyer == '' and quantity_text or quantity_text .. ':' .. buyer
      -- Also where some of it was given back since, and whose it is by now.
      terms = match(terms, '^[^!]*')
      local same = terms == wanted or match(terms, '^%d+/(.*)$') == wanted
      reply[i] = same and 'k' .. line(record) or 'r'
    end
  elseif not on_sale then
    reply[i] = 'n'
  elseif buyer_required == '1' and buyer == '' then
    reply[i] = 'q'
  else
    local quantity = quantity_text == '1' and 1 or tonumber(quantity_text)
    local field, name, tickets, its_holds, its_held, others
    if counts and buyer ~= '' then
      field, name = argv[fields + i], name_of(buyer)
      tickets, its_holds, its_held, others = entry_in(buckets[field], name)
    end
    if name and per_buyer and tickets + its_held + quantity > per_buyer then
      reply[i] = 'b'
    elseif quantity > left then
      reply[i] = 's'
    else
      reply[i] = granted_line
      left = left - quantity
      taken = taken + quantity
      local id = argv[texts + i]
      log(id == '' and booking or id, word, quantity_text, buyer, expires_at)
      record = (name and counted or letter) .. quantity_text .. mark
      if buyer ~= '' then record = record .. ':' .. buyer end
      if name then
        if hold then
          buckets[field] = others .. name .. tickets .. its_holds .. hold_mark .. (quantity == 1 and '' or quantity_text)
        else
          buckets[field] = others .. name .. tickets + quantity .. its_holds
        end
        counted_in[field] = true
      end
      if granted then granted[booking] = record end
      new[n + 1], new[n + 2] = booking, record
      n = n + 2
    end
  end
end

if n > 0 then
  if hold then
    held = held + taken
    owe(now + hold, taken)
    for first = 1, n, 2 * GROUP_MAX do
      local group = {}
      for i = first, min(n, first + 2 * GROUP_MAX - 1), 2 do group[#group + 1] = new[i] end
      hold_until(now + hold, table.concat(group, ' ') .. ' ')
    end
  else
    sold = sold + taken
  end
  if next(counted_in) then
    local changed = {}
    for field in pairs(counted_in) do
      changed[#changed + 1] = field
      changed[#changed + 1] = buckets[field]
    end
    call('HSET', KEYS[4], unpack(changed))
  end
  call('HSET', KEYS[2], unpack(new))
end
save()
return state() .. '\n' .. table.concat(reply, '\n')
