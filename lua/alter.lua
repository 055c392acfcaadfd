-- Changes the terms or the status of a sale.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first; then pairs: a field of the stock hash (total status hold per_buyer starts
--       ends buyer_required hold_max) and its new value ('' removes a term); or `only` and the version that the change is for
-- Reply `done`; `version` if the sale is at another one; `total` if it would be below held + sold; `window` if it would be
--       empty; or `counting`: the first limit needs what buyers have, which each call counts some of. The same call goes on.
-- Invariant: all of it or nothing; `version` rises by one where something differs afterwards. A limit is in force only once
-- every booking of every buyer is counted.

if refused then return refused end
sweep(ARGV[1])

-- Bookings that one call looks at, as in src/limits.rs.
local COUNTED_PER_CALL = 250

-- Counts on from where the last call stopped. What is booked meanwhile is counted as it is booked. A booking that stays
-- is on some page of a scan, and the capital letter tells whether it was on another before.
local function count_on()
  local page = call('HSCAN', KEYS[2], counts and counted or '0', 'COUNT', COUNTED_PER_CALL)
  for i = 1, #page[2], 2 do
    local letter, quantity, deadline, _, buyer = parts(page[2][i + 1])
    if buyer ~= '' and (letter == 'c' or (letter == 'h' and deadline > now)) then
      if letter == 'c' then
        count(buyer, quantity, '', '')
      else
        count(buyer, 0, '', held_until(deadline, quantity))
      end
      call('HSET', KEYS[2], page[2][i], string.upper(letter) .. sub(page[2][i + 1], 2))
    end
  end
  counted = page[1] == '0' and 'all' or page[1]
  -- A hold that is over by now is not counted, and so must not begin again with a clock that goes back.
  call('HSET', KEYS[1], 'counted', counted, 'clock', now)
end

local place = {}
for i, name in ipairs(FIELDS) do place[name] = i end
local wanted, changed, fault = {}, {}, nil
for i = 1, 20 do wanted[i] = field[i] end
wanted[20], wanted[22] = buyer_required, field[22] or ''
for i = 2, #ARGV, 2 do
  local at = place[ARGV[i]]
  if ARGV[i] == 'only' then
    if tonumber(ARGV[i + 1]) ~= version then fault = 'version' end
  elseif wanted[at] ~= ARGV[i + 1] then
    wanted[at] = ARGV[i + 1]
    changed[#changed + 1] = ARGV[i]
    changed[#changed + 1] = ARGV[i + 1]
  end
end
local first, last = tonumber(wanted[9]), tonumber(wanted[10])
if not fault then
  if tonumber(wanted[1]) < held + sold then fault = 'total' elseif first and last and last <= first then fault = 'window' end
end
if fault then
  save()
  return state() .. '\n' .. fault
end
if tonumber(wanted[8]) and counted ~= 'all' then
  count_on()
  if counted ~= 'all' then
    save()
    return state() .. '\ncounting'
  end
end
if #changed > 0 then
  field, total, status, version = wanted, tonumber(wanted[1]), wanted[6], version + 1
  buyer_required, hold_max = wanted[20], tonumber(wanted[22])
  announce()
  call('HSET', KEYS[1], 'version', version, 'announced', announced, unpack(changed))
end
save()
return state() .. '\ndone'
