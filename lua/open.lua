-- Opens the sale where there is none of its name; never changes one that exists.
--
-- KEYS  as in sale.lua, and before the last two bx:sales, a set: the names of all sales
-- ARGV  total, hold in ms, tickets a buyer, start and end in ms ('' where there is no such term), `1` if each booking must
--       name its buyer (else `0`), `1` if an operator asks for it and `0` if a host that starts, the sale's name,
--       the longest hold in ms ('' where there is none)
-- Reply `created`, `exists`, or `lost`, after no state: the ledger had a sale of that name and has lost it, and a start is no
--       reason to sell its tickets again.
-- Invariant: a sale that exists is left as it is, whatever the terms. A sale that is there is named, and one that is named
-- and not there is lost: it is named here and in recall.lua alone, and its name goes by remove.lua alone. Over what is left
-- of a lost sale it is opened paused and without counts, so that every script refuses it until an audit has counted.
-- On a Cluster whoever calls this has named the sale before, and has looked whether it was named.

local sales = KEYS[8]
local is_named_here = sales ~= KEYS[1]
local is_uncounted = refused ~= 'missing' and not field[2] and not field[3] and status == 'paused'
if refused and refused ~= 'missing' and not (is_uncounted and ARGV[7] == '1') then return refused end
if not refused then return state() .. '\nexists' end

local left_over = call('EXISTS', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]) > 0
if ARGV[7] ~= '1' and (left_over or is_named_here and call('SISMEMBER', sales, ARGV[8]) == 1) then return 'lost' end

total, version, status, buyer_required, by_operator = tonumber(ARGV[1]), 1, 'open', ARGV[6], ARGV[7]
for i = 2, 5 do field[i + 5] = ARGV[i] end
counted, hold_max = ARGV[3] ~= '' and 'all' or '', tonumber(ARGV[9])
held, sold, sequence = 0, 0, 0
if left_over then
  status = 'paused'
  local last = call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
  if last then
    local ms, seq = match(last[1], '^(%d+)-(%d+)$')
    now, sequence = max(now, tonumber(ms)), tonumber(seq)
  end
  due = first_deadline()
  -- Whether the bookings that are there were counted for their buyers, only this tells.
  counted = call('EXISTS', KEYS[4]) == 1 and 'all' or ''
  if counted == '' then field[8] = '' end
end
opened, lineage, announced = now, now, 0
-- Before the sale: what fails here leaves nothing behind.
if is_named_here then call('SADD', sales, ARGV[8]) end
announce()
call('HSET', KEYS[1], 'total', ARGV[1], 'version', 1, 'sequence', sequence, 'status', status, 'hold', ARGV[2],
  'per_buyer', field[8], 'starts', ARGV[4], 'ends', ARGV[5], 'clock', now, 'opened', now, 'lineage', now,
  'announced', announced, 'buyer_required', ARGV[6], 'counted', counted, 'by_operator', by_operator, 'due', due)
if hold_max then call('HSET', KEYS[1], 'hold_max', hold_max) end
if not left_over then call('HSET', KEYS[1], 'held', 0, 'sold', 0) end
return state() .. '\ncreated'
