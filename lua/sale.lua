-- What every script of a sale starts with: the sale's state, its clock, its log and its overdue holds.
--
-- KEYS  1 stock     hash: total held sold version sequence status hold per_buyer starts ends clock, and
--                   opened lineage frozen_since frozen_until (see `withhold`), due lapsed announced by_operator
--                   buyer_required
--       2 bookings  hash: booking -> record
--       3 holds     sorted set: group of bookings -> their deadline in ms
--       4 buyers    hash: bucket -> its buyers and their tickets held and confirmed, counted while the sale has a limit
--       5 log       stream: one entry a change of a booking, its id <ms>-<sequence>
--       6 lost      hash: what this ledger was found to have forgotten (see restore.lua)
--       last two    bx:changes, a sorted set: sale -> the number of its latest announcement, and bx:feed, the latest
--                   number there is (see `announce`): of all sales, and so of another slot than the others
--
-- A record is a letter and the quantity, where it is held `@` and the deadline, and where there is a buyer a colon and
-- the buyer: `c2:u-81`, `h1@1763827200123:u-81`.
--   h held    c confirmed    e expired    x cancelled    t tombstone, alone: never granted
--   H C       the same as h and c, and counted in `buyers`
-- A booking whose id is a UUID goes by a zero byte and its 16 bytes instead of 36 characters: at a million bookings
-- that is what keeps the sale small. Every other id is itself. The log has all ids as text.
-- A bucket is a hash of the buyer, and holds ` u-81=2 u-82=1`: a field a buyer would cost 64 bytes, four in one cost 26
-- each. There are so many buckets that they stay short: 40 buyers at ten million.
-- A group is what one call held, ids each with a space after it. It stays until its deadline whatever becomes of its
-- bookings: the record decides. A member a hold would cost more than the rest of the booking.
--
-- Reply: one string; its first line is the sale's state, and each script adds a line an entry. `missing` where there
-- is no such sale, which is not the same as sold out.
--
-- Invariants: held + sold <= total wherever stock is taken; the log has one entry for each step of `sequence`; every
-- held booking is in a group of its deadline.
-- A script that fails for want of memory, or on a key that is not what it should be, changes nothing: Redis checks the
-- memory at the first write, stock, bookings and holds are read before it, and it is the log's.
-- Numbers stay below 10^14, so that Lua writes them without an exponent (src/limits.rs).

local call = redis.call
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub

local field = call('HMGET', KEYS[1], 'total', 'held', 'sold', 'version', 'sequence', 'status', 'hold', 'per_buyer',
  'starts', 'ends', 'clock', 'opened', 'lineage', 'frozen_since', 'frozen_until', 'due', 'lapsed', 'announced',
  'by_operator', 'buyer_required')
local total, held, sold = tonumber(field[1]), tonumber(field[2]), tonumber(field[3])
local version, sequence = tonumber(field[4]), tonumber(field[5])
local status, hold, per_buyer = field[6], tonumber(field[7]), tonumber(field[8])
local starts, ends = tonumber(field[9]), tonumber(field[10])
local opened, lineage = tonumber(field[12]) or 0, tonumber(field[13]) or 0
local frozen_since, frozen_until = tonumber(field[14]) or 0, tonumber(field[15]) or 0
local due, lapsed, announced = tonumber(field[16]) or 0, tonumber(field[17]) or 0, tonumber(field[18]) or 0
local by_operator, buyer_required = field[19] or '0', field[20] or '0'
local readable = total and held and sold and version and sequence
  and (status == 'open' or status == 'paused' or status == 'closed')
if field[1] and not readable then
  return redis.error_reply('GARBLED the stock of this sale is not readable: ' .. KEYS[1])
end

-- The sale's clock is Redis' own, except that it never goes back: not when the machine's does, nor after a failover
-- to one that is behind.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
now = math.max(now, tonumber(field[11]) or 0)
local log_prefix = now .. '-'

-- The first line of the reply. `read_snapshot` in src/ledger/redis/read.rs makes the same of the stock hash by itself.
local function state()
  return table.concat({ total, held, sold, version, sequence, status, field[7], field[8], field[9], field[10], now,
    opened, lineage, frozen_until, due, lapsed, announced, by_operator, buyer_required }, ',')
end

-- Hosts ask which sales have changed since they asked last, and read those. So a script that changes a sale announces it, at
-- most once in a while: whoever reads a sale so short a time after an announcement reads it again a little later. Before
-- `state()`, which tells of it. That an announcement fails, on a key that somebody has put there, must not stop a script
-- halfway: hosts read every sale now and then.
local ANNOUNCE_MS, CHANGES_KEPT = 100, 1000000 -- as in src/limits.rs
local changes_key, feed_key = KEYS[#KEYS - 1], KEYS[#KEYS]
local announced_before = announced
local function announce()
  if now >= announced and now - announced < ANNOUNCE_MS then return end
  announced = now
  local number = redis.pcall('INCR', feed_key)
  if type(number) ~= 'number' then return end
  redis.pcall('ZADD', changes_key, number, sub(KEYS[1], 5, -8)) -- bx:{SALE}:stock
  -- Of sales that are gone, too.
  if number % 1024 == 0 then redis.pcall('ZREMRANGEBYSCORE', changes_key, '-inf', number - CHANGES_KEPT) end
end

-- A ledger may fall back behind what it acknowledged: a replica that lagged takes over, the end of an append-only file is
-- lost, an old copy is put in place. Whoever has seen more than there is now can tell. So the first argument of each
-- call that books, confirms, cancels or restores is the most overdue holds to expire first and, from a caller that has
-- seen the sale, when it was opened, its lineage, and the highest sequence of that lineage: `256 1763827200123
-- 1763827200123 4711`. A ledger that has forgotten something takes another lineage and is frozen for a while, in which
-- every host puts back what it acknowledged (restore.lua). Whoever comes with another lineage has yet to do so.
local FREEZE_MS, FREEZE_MS_MAX = 2000, 10000 -- as in src/limits.rs

-- What the caller has seen, of this sale; nil where it is of another one, or nothing; then whether it is of another.
local function seen_in(words)
  local its_opened, its_lineage, its_sequence = match(words, ' (%d+) (%d+) (%d+)$')
  if not its_opened then return nil, nil, false end
  if tonumber(its_opened) ~= opened then return nil, nil, true end
  return tonumber(its_lineage), tonumber(its_sequence), false
end

local function is_less_than(its_lineage, its_sequence)
  return its_lineage and (lineage < its_lineage or (lineage == its_lineage and sequence < its_sequence))
end

-- Begins a freeze with a new lineage where there is none, or the caller has seen more (`less`); makes the one that is
-- there last otherwise, within bounds.
local sequence_before = sequence
local function freeze(its_lineage, its_sequence, less)
  if less or frozen_until <= now then
    lineage = math.max(now, lineage + 1, (its_lineage or 0) + 1)
    frozen_since = now
    call('HSET', KEYS[6], '@' .. now, (its_sequence or sequence_before) .. ' ' .. sequence_before)
  end
  frozen_until = math.max(frozen_until, math.min(now + FREEZE_MS, frozen_since + FREEZE_MS_MAX))
  announce()
  call('HSET', KEYS[1], 'lineage', lineage, 'frozen_since', frozen_since, 'frozen_until', frozen_until,
    'announced', announced)
end

-- The reply to a caller that nothing is done for; nil where it may go on.
local function withhold(words)
  local its_lineage, its_sequence, stranger = seen_in(words)
  if is_less_than(its_lineage, its_sequence) then freeze(its_lineage, its_sequence, true) end
  if frozen_until > now or stranger or (its_lineage and its_lineage ~= lineage) then return state() .. '\nwithheld' end
end

-- Writes what changed in the counts, once, at the end of a script.
local function save()
  if sequence ~= sequence_before then
    announce()
    if announced == announced_before then
      call('HSET', KEYS[1], 'held', held, 'sold', sold, 'sequence', sequence, 'clock', now)
    else
      call('HSET', KEYS[1], 'held', held, 'sold', sold, 'sequence', sequence, 'clock', now, 'announced', announced)
    end
  end
end

-- The id as text.
local function text(booking)
  if byte(booking) ~= 0 then return booking end
  return format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', byte(booking, 2, 17))
end

-- Two digits each from 00 to 99: Lua writes a number at the price of half a log entry, so that of a sequence only the
-- hundreds are written, once for all that share them.
local DIGITS = '0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849'
  .. '5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899'
local stream, hundreds, hundreds_text = KEYS[5], nil, nil

-- Takes the next sequence and logs one change. A sale's entries have the same names in the same order, needed or not:
-- the stream then stores the names once a node. Only a sale without holds has no `expires_at`, except of a hold that was
-- made before it had none and is put back.
local function log(id, word, quantity, buyer, expires_at)
  sequence = sequence + 1
  local last_two = sequence % 100
  local entry
  if sequence < 100 then
    entry = log_prefix .. sequence
  else
    if sequence - last_two ~= hundreds then
      hundreds = sequence - last_two
      hundreds_text = log_prefix .. hundreds / 100
    end
    entry = hundreds_text .. sub(DIGITS, 2 * last_two + 1, 2 * last_two + 2)
  end
  if hold or expires_at ~= '' then
    call('XADD', stream, entry, 'booking', id, 'status', word, 'quantity', quantity, 'buyer', buyer,
      'expires_at', expires_at)
  else
    call('XADD', stream, entry, 'booking', id, 'status', word, 'quantity', quantity, 'buyer', buyer)
  end
end

-- Letter, quantity, deadline (numbers) and terms (`2:u-81`) of a record, and the buyer ('' for none).
local function parts(record)
  local letter, quantity, deadline, rest = match(record, '^(%a)(%d*)@?(%d*)(.*)$')
  return letter, tonumber(quantity), tonumber(deadline), quantity .. rest, sub(rest, 2)
end

-- The buyer's bucket, as src/ledger/redis/pack.rs reckons it too. The modulus is a prime.
local function bucket_of(buyer)
  local hash = 0
  for i = 1, #buyer do hash = (hash * 6007 + byte(buyer, i)) % 262139 end
  return format('%x', hash)
end

-- How a buyer stands in a bucket, before its tickets.
local function name_of(buyer) return ' ' .. buyer .. '=' end

-- Tickets of that name, and the bucket without it.
local function tickets_in(bucket, name)
  local first, last = find(bucket, name, 1, true)
  if not first then return 0, bucket end
  local tickets, past = match(bucket, '^(%d+)()', last + 1)
  return tonumber(tickets), sub(bucket, 1, first - 1) .. sub(bucket, past)
end

local function tickets_of(buyer)
  return (tickets_in(call('HGET', KEYS[4], bucket_of(buyer)) or '', name_of(buyer)))
end

-- Adds to the tickets of a buyer, or takes away.
local function count(buyer, tickets)
  local field, name = bucket_of(buyer), name_of(buyer)
  local had, bucket = tickets_in(call('HGET', KEYS[4], field) or '', name)
  local has = had + tickets
  if has > 0 then bucket = bucket .. name .. has end
  if bucket == '' then call('HDEL', KEYS[4], field) else call('HSET', KEYS[4], field, bucket) end
end

-- Expires those of these bookings that are held and overdue.
local function expire(bookings)
  local records = call('HMGET', KEYS[2], unpack(bookings))
  local changed, n = {}, 0
  for i, booking in ipairs(bookings) do
    local letter, quantity, deadline, terms, buyer = parts(records[i] or 't')
    if (letter == 'h' or letter == 'H') and deadline <= now then
      log(text(booking), 'expired', quantity, buyer, '')
      held = held - quantity
      if letter == 'H' then count(buyer, -quantity) end
      changed[n + 1], changed[n + 2] = booking, 'e' .. terms
      n = n + 2
    end
  end
  if n > 0 then call('HSET', KEYS[2], unpack(changed)) end
end

-- The bookings of a group, added to `bookings`.
local function ungroup(group, bookings)
  local at = 1
  while at <= #group do
    local last = byte(group, at) == 0 and at + 16 or find(group, ' ', at, true) - 1
    bookings[#bookings + 1] = sub(group, at, last)
    at = last + 2
  end
end

-- Every script that changes something starts by expiring what is overdue, oldest first, at most `limit`: what a hold
-- gives back can be sold in the same call, and nobody has to sweep for that. Not while the sale is frozen: a hold may
-- have been confirmed in what was forgotten.
local function sweep(words)
  local limit = frozen_until > now and 0 or tonumber(match(words, '^%d+'))
  while limit > 0 do
    local groups = call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 4)
    if #groups == 0 then return end
    local done, bookings = {}, {}
    for _, group in ipairs(groups) do
      local before = #bookings
      ungroup(group, bookings)
      if #bookings > limit then
        for i = #bookings, before + 1, -1 do bookings[i] = nil end
        limit = 0
        break
      end
      done[#done + 1] = group
    end
    if #done == 0 then return end
    expire(bookings)
    call('ZREM', KEYS[3], unpack(done))
    limit = limit - #bookings
  end
end

-- A booking's line in a reply: its record, without the mark of being counted. `-` where there is none. A hold that is
-- overdue is told as expired.
local function line(record)
  if not record or record == 't' then return '-' end
  local letter, _, deadline, terms = parts(record)
  if deadline and deadline <= now then return 'e' .. terms end
  return string.lower(letter) .. sub(record, 2)
end
