-- Mends what follows from bookings and log: counts, clock, the groups of holds, the buyers' tickets.
--
-- KEYS  as in sale.lua
-- ARGV  1 version and 2 sequence of the sale when it was audited; then repairs, each a word and two more:
--         counts held sold    clock ms ''    buyer name tickets    hold deadline group
--         ungroup group ''    unbucket bucket ''
-- Reply `done`, or `refused` where the sale has moved since, or the counts would be above the total
-- Invariant: bookings and log are not touched; all of it or nothing; no hold is expired first, since that would move the
-- sale. Neither version nor sequence move, so that the same repair may be sent twice.

if not field[1] then return 'missing' end

local fits = version == tonumber(ARGV[1]) and sequence == tonumber(ARGV[2])
for i = 3, #ARGV, 3 do
  if ARGV[i] == 'counts' then fits = fits and ARGV[i + 1] + ARGV[i + 2] <= total end
end
if not fits then return state() .. '\nrefused' end

-- A key of another type fails here, before the first write.
call('HGET', KEYS[4], '')
call('ZRANGEBYSCORE', KEYS[3], 0, 0, 'LIMIT', 0, 1)

for i = 3, #ARGV, 3 do
  local word, one, other = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if word == 'counts' then
    held, sold = tonumber(one), tonumber(other)
    call('HSET', KEYS[1], 'held', one, 'sold', other)
  elseif word == 'clock' then
    call('HSET', KEYS[1], 'clock', one)
  elseif word == 'buyer' then
    local bucket, name = bucket_of(one), name_of(one)
    local _, others = tickets_in(call('HGET', KEYS[4], bucket) or '', name)
    if other ~= '0' then others = others .. name .. other end
    if others == '' then call('HDEL', KEYS[4], bucket) else call('HSET', KEYS[4], bucket, others) end
  elseif word == 'hold' then
    call('ZADD', KEYS[3], one, other)
  elseif word == 'ungroup' then
    call('ZREM', KEYS[3], one)
  elseif word == 'unbucket' then
    call('HDEL', KEYS[4], one)
  end
end
-- Hosts are to learn of the counts.
announce()
call('HSET', KEYS[1], 'announced', announced)
return state() .. '\ndone'
