-- Changes the terms or the status of a sale.
--
-- KEYS  as in sale.lua
-- ARGV  1 most overdue holds to expire first; then pairs: a field of the stock hash (total status hold per_buyer starts
--       ends) and its new value ('' removes a term)
-- Reply `done`, or `refused` where the total would be below held + sold or the window would be empty
-- Invariant: all of it or nothing; `version` rises by one where something differs afterwards.

if not field[1] then return 'missing' end
sweep(ARGV[1])

local place = { total = 1, status = 6, hold = 7, per_buyer = 8, starts = 9, ends = 10 }
local wanted, changed = {}, {}
for i = 1, 10 do wanted[i] = field[i] end
for i = 2, #ARGV, 2 do
  local at = place[ARGV[i]]
  if wanted[at] ~= ARGV[i + 1] then
    wanted[at] = ARGV[i + 1]
    changed[#changed + 1] = ARGV[i]
    changed[#changed + 1] = ARGV[i + 1]
  end
end
local first, last = tonumber(wanted[9]), tonumber(wanted[10])
if tonumber(wanted[1]) < held + sold or (first and last and last <= first) then
  save()
  return state() .. '\nrefused'
end
if #changed > 0 then
  field, total, status, version = wanted, tonumber(wanted[1]), wanted[6], version + 1
  announce()
  call('HSET', KEYS[1], 'version', version, 'announced', announced, unpack(changed))
end
save()
return state() .. '\ndone'
