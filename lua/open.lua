-- Opens the sale where there is none of its name; never changes one that exists.
--
-- KEYS  as in sale.lua
-- ARGV  total, hold in ms, tickets a buyer, start and end in ms ('' where there is no such term), `1` if each booking must
--       name its buyer (else `0`)
-- Reply `created` or `exists`
-- Invariant: a sale that exists is left as it is, whatever the terms.

local created = not field[1]
if created then
  total, held, sold, version, sequence, status = tonumber(ARGV[1]), 0, 0, 1, 0, 'open'
  for i = 2, 5 do field[i + 5] = ARGV[i] end
  opened, lineage, buyer_required = now, now, ARGV[6]
  announce()
  call('HSET', KEYS[1], 'total', ARGV[1], 'held', 0, 'sold', 0, 'version', 1, 'sequence', 0, 'status', 'open',
    'hold', ARGV[2], 'per_buyer', ARGV[3], 'starts', ARGV[4], 'ends', ARGV[5], 'clock', now, 'opened', now,
    'lineage', now, 'announced', announced, 'buyer_required', ARGV[6], 'counted', ARGV[3] ~= '' and 'all' or '')
end
return state() .. (created and '\ncreated' or '\nexists')
