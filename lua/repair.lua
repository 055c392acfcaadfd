-- Mends what follows from bookings and log: counts, clock, the groups of holds, the spans in which they end, the buyers'
-- tickets.
--
-- KEYS  as in sale.lua
-- ARGV  1 version and 2 sequence of the sale when it was audited; then repairs, each a word and two more:
--         counts held sold    clock ms ''    buyer name entry    hold deadline group    span field tickets
--         ungroup group ''    unbucket bucket ''
--       A buyer's entry is what stands behind its name in a bucket ('' for nothing), a span of 0 tickets is removed.
-- Reply `done`; `moved` where the sale has since; `counts` where they would be above the total
-- Invariant: bookings and log are not touched; all of it or nothing; no hold is expired first, since that would move the
-- sale. Neither version nor sequence move, so that the same repair may be sent twice.

if refused == 'missing' then return refused end
-- Counts are mended, whatever they are, but not where that of which they are the sum is gone.
local had = (tonumber(field[2]) or 0) + (tonumber(field[3]) or 0)
if had > 0 and call('EXISTS', KEYS[2]) == 0 then return redis.error_reply('UNSOUND ' .. KEYS[2] .. ' is gone') end
field[2], field[3], held, sold = field[2] or '0', field[3] or '0', held or 0, sold or 0

if version ~= tonumber(ARGV[1]) or sequence ~= tonumber(ARGV[2]) then return state() .. '\nmoved' end
for i = 3, #ARGV, 3 do
  if ARGV[i] == 'counts' and ARGV[i + 1] + ARGV[i + 2] > total then return state() .. '\ncounts' end
end

-- A key of another type fails here, before the first write.
call('HGET', KEYS[4], '')
call('ZRANGEBYSCORE', KEYS[3], 0, 0, 'LIMIT', 0, 1)

for i = 3, #ARGV, 3 do
  local word, one, other = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if word == 'counts' then
    held, sold = tonumber(one), tonumber(other)
    call('HSET', KEYS[1], 'held', one, 'sold', other)
  elseif word == 'clock' then
    -- Nothing can have lapsed that is not over by this clock.
    lapsed = min(lapsed, tonumber(one))
    call('HSET', KEYS[1], 'clock', one, 'lapsed', lapsed)
  elseif word == 'buyer' then
    local bucket, name = bucket_of(one), name_of(one)
    local _, _, _, others = entry_in(call('HGET', KEYS[4], bucket) or '', name)
    if other ~= '' then others = others .. name .. other end
    if others == '' then call('HDEL', KEYS[4], bucket) else call('HSET', KEYS[4], bucket, others) end
  elseif word == 'hold' then
    call('ZADD', KEYS[3], one, other)
  elseif word == 'span' then
    if other == '0' then call('HDEL', KEYS[7], one) else call('HSET', KEYS[7], one, other) end
  elseif word == 'ungroup' then
    call('ZREM', KEYS[3], one)
  elseif word == 'unbucket' then
    call('HDEL', KEYS[4], one)
  end
end
due = first_deadline()
-- Hosts are to learn of the counts.
announce()
call('HSET', KEYS[1], 'due', due, 'announced', announced)
return state() .. '\ndone'
