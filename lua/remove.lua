-- Removes the sale with all that belongs to it, and its name.
--
-- KEYS  as in sale.lua, and before the last two bx:sales, a set: the names of all sales, and bx:removed, a sorted set: sale
--       -> when it was removed
-- ARGV  1 the sale's name
-- Reply `removed`, after no state, also where that was done before; `closed` where the sale is not, and `held` where
--       bookings are held. What is not sound sells nothing, and is removed as it is.
-- Invariant: whoever knew the sale is told that it was removed and not lost, for a week (recall.lua). All of it at once:
-- Redis frees what is large by itself, beside the calls. On a Cluster this is called once with the keys of the sale, where it
-- removes those alone, and then with those of all sales and none of a sale.

local REMOVED_KEPT_MS = 604800000
local sales, removed = KEYS[8], KEYS[9]
if not refused then
  lapse()
  if status ~= 'closed' then return state() .. '\nclosed' end
  if held > 0 then return state() .. '\nheld' end
end
local is_named_here = sales ~= KEYS[1]
local is_known = is_named_here and (call('SISMEMBER', sales, ARGV[1]) == 1 or call('ZSCORE', removed, ARGV[1]))
if not is_known and call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]) == 0 then
  return 'missing'
end
ask_for_rights()
if is_named_here then
  call('ZADD', removed, now, ARGV[1])
  call('SREM', sales, ARGV[1])
  call('ZREMRANGEBYSCORE', removed, '-inf', now - REMOVED_KEPT_MS)
end
call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
announced = 0
announce()
return 'removed'
