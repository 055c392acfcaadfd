-- What every script of a sale starts with: the sale's state, its clock, its log and its overdue holds.
--
-- KEYS  1 stock     hash: total held sold version sequence status hold per_buyer starts ends clock, and
--                   opened lineage frozen_since frozen_until (see `withhold`), due lapsed announced by_operator
--                   buyer_required counted hold_max
--       2 bookings  hash: booking -> record
--       3 holds     sorted set: group of bookings -> their deadline in ms
--       4 buyers    hash: bucket -> its buyers and their tickets confirmed and held, from the sale's first limit on
--       5 log       stream: one entry a change of a booking, its id <ms>-<sequence>
--       6 lost      hash: what this ledger was found to have forgotten (see restore.lua)
--       7 due       hash: span of time -> tickets of the holds that end in it (see `lapse`)
--       the last two: bx:changes  sorted set: sale -> the number of its latest announcement, and bx:feed, the latest number
--                   there is (see `announce`): of all sales, and so of another slot than the others. On a Cluster the
--                   stock is in their place, and in that of every other key of all sales: those are left alone
--
-- A record is a letter and the quantity, where it is held `@` and the deadline, and where there is a buyer a colon and
-- the buyer: `c2:u-81`, `h1@1763827200123:u-81`.
--   h held    c confirmed    e expired    x cancelled    t tombstone, alone: never granted
--   H C       the same as h and c, and counted in `buyers`
-- Of a booking that gave some of its tickets back the quantity is what it has, a slash and what it was made with: `c1/2`.
-- Of one that an operator gave to another buyer an exclamation mark and how often follow at the end: `c2:u-82!1`, `c2!2`.
-- Where the sale has a longest hold, a deadline is followed by a hyphen and how long the hold is in all:
-- `h1@1763827200123-300000`.
-- A hold that is over is `h` until it is swept, and counts for nobody from its deadline on.
-- A booking whose id is a UUID goes by a zero byte and its 16 bytes instead of 36 characters: at a million bookings
-- that is what keeps the sale small. Every other id is itself. The log has all ids as text.
-- A bucket is a hash of the buyer, and holds ` u-81=2 u-82=1`: a field a buyer would cost 64 bytes, four in one cost 26
-- each. There are so many buckets that they stay short: 40 buyers at ten million. The number is of confirmed tickets;
-- behind it stands each hold, its deadline in seven characters and its tickets unless that is one: ` u-81=2hRzG_rB3`.
-- A group is what one call held, ids each with a space after it. It stays until its deadline whatever becomes of its
-- bookings: the record decides. A member a hold would cost more than the rest of the booking.
--
-- Reply: one string; its first line is the sale's state, and each script adds a line an entry. `missing` where there
-- is no such sale, which is not the same as sold out. An error that begins with `UNSOUND` where what is stored is nothing
-- that boxoffice leaves behind, with the key and what is wrong with it: then nothing is done.
--
-- Invariants: held + sold <= total wherever stock is taken; `held` is the sum of the holds that end after `lapsed`, and so
-- are the spans of `due` that begin after it; the log has one entry for each step of `sequence`; every held booking is in
-- a group of its deadline; no group's deadline is before `due` in the stock, which is 0 if there is none.
-- A script that fails for want of memory, of a right, or on a key that is not what it should be, changes nothing: Redis
-- checks the memory at the first write, all that is written is read before it, rights are asked for, and it is the log's.
-- Numbers stay below 10^14, so that Lua writes them without an exponent (src/limits.rs).

local call = redis.call
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local floor, max, min = math.floor, math.max, math.min

-- Numbers, but for the sixth; the first five are always there.
local FIELDS = { 'total', 'held', 'sold', 'version', 'sequence', 'status', 'hold', 'per_buyer', 'starts', 'ends', 'clock',
  'opened', 'lineage', 'frozen_since', 'frozen_until', 'due', 'lapsed', 'announced', 'by_operator', 'buyer_required',
  'counted', 'hold_max' }
local field = redis.pcall('HMGET', KEYS[1], unpack(FIELDS))
if field.err then
  local is_other = find(field.err, 'WRONGTYPE', 1, true)
  return is_other and redis.error_reply('UNSOUND ' .. KEYS[1] .. ' is not a hash') or field
end
local total, held, sold = tonumber(field[1]), tonumber(field[2]), tonumber(field[3])
local version, sequence = tonumber(field[4]), tonumber(field[5])
local status, hold, per_buyer = field[6], tonumber(field[7]), tonumber(field[8])
local starts, ends = tonumber(field[9]), tonumber(field[10])
local opened, lineage = tonumber(field[12]) or 0, tonumber(field[13]) or 0
local frozen_since, frozen_until = tonumber(field[14]) or 0, tonumber(field[15]) or 0
local due, lapsed, announced = tonumber(field[16]) or 0, tonumber(field[17]) or 0, tonumber(field[18]) or 0
local by_operator, buyer_required = field[19] or '0', field[20] or '0'
-- Whether buyers' tickets are counted: '' for no; a cursor if those of before the first limit are being counted
-- (alter.lua), and all that is booked meanwhile; `all`.
local counted = field[21] or ''
local counts = counted ~= ''
local hold_max = tonumber(field[22])
-- Whether a field is not there, or empty, or a whole number from 0 on.
local function is_count(text)
  local number = tonumber(text)
  return not text or text == '' or number and number >= 0 and number < 1e15 and number % 1 == 0
end

-- What is wrong with the sale as it is stored, so that nobody may act on it; nil where it is sound.
local function fault()
  local has = KEYS[1] .. ' has '
  for i = 1, 18 do
    local is_needed = i <= 5 and (field[i] or '') == ''
    if i ~= 6 and (is_needed or not is_count(field[i])) then return has .. 'no number in ' .. FIELDS[i] end
  end
  if not is_count(field[22]) then return has .. 'no number in hold_max' end
  -- A later layout than 1 puts its number and a colon before it.
  if status ~= 'open' and status ~= 'paused' and status ~= 'closed' then return has .. 'no known status' end
  if held + sold > total then return has .. 'more tickets held and sold than there are' end
  local needed = held > 0 and { KEYS[2], KEYS[3], KEYS[7] } or { sold > 0 and KEYS[2] }
  for _, key in ipairs(needed) do
    if key and call('EXISTS', key) == 0 then return key .. ' is gone' end
  end
end

-- The reply that ends a script before it has begun; nil where it may go on. What is sound is seen at a glance.
local refused
local sum = total and held and sold and version and sequence and total + held + sold + version + sequence
if not (sum and sum < 1e15 and sum % 1 == 0 and total >= 0 and held >= 0 and sold >= 0 and version >= 0 and sequence >= 0
    and held + sold <= total and (status == 'open' or status == 'paused' or status == 'closed')
    and ((hold or -1) >= 0 or (field[7] or '') == '') and ((per_buyer or -1) >= 0 or (field[8] or '') == '')
    and ((starts or -1) >= 0 or (field[9] or '') == '') and ((ends or -1) >= 0 or (field[10] or '') == '')
    and ((hold_max or -1) >= 0 or (field[22] or '') == '')
    and tonumber(field[11]) and opened > 0 and lineage > 0 and frozen_since >= 0 and frozen_until >= 0
    and due >= 0 and (due > 0 or (field[16] or '0') == '0')
    and (held == 0 and (sold == 0 or call('EXISTS', KEYS[2]) == 1)
      or held > 0 and call('EXISTS', KEYS[2], KEYS[3], KEYS[7]) == 3)) then
  local exists = false
  for i = 1, 21 do exists = exists or field[i] end
  local wrong = exists and fault()
  refused = not exists and 'missing' or wrong and redis.error_reply('UNSOUND ' .. wrong)
end

-- The sale's clock is Redis' own, except that it never goes back: not when the machine's does, nor after a failover
-- to one that is behind.
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
now = max(now, tonumber(field[11]) or 0)
local log_prefix = now .. '-'

-- The first line of the reply. `read_snapshot` in src/ledger/redis/read.rs makes the same of the stock hash by itself.
local function state()
  return table.concat({ total, held, sold, version, sequence, status, field[7], field[8], field[9], field[10], now,
    opened, lineage, frozen_until, due, lapsed, announced, by_operator, buyer_required, hold_max }, ',')
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
  if feed_key == KEYS[1] then return end
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
    lineage = max(now, lineage + 1, (its_lineage or 0) + 1)
    frozen_since = now
    call('HSET', KEYS[6], '@' .. now, (its_sequence or sequence_before) .. ' ' .. sequence_before)
  end
  frozen_until = max(frozen_until, min(now + FREEZE_MS, frozen_since + FREEZE_MS_MAX))
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

-- Overdue is available: a hold counts for nobody from its deadline on, however many end at once and whether anybody has
-- looked at them yet. So `due` keeps how many tickets of live holds end in each span of time: of 1 ms, 64 ms, 4.1 s,
-- 4.4 min and 4.7 h. What has ended since `lapsed` is then the sum of at most 63 spans of a length at each end and of the
-- longest between: some 70 after a sync, a few hundred after days. A change of one hold changes five spans.
local SPANS = { 1, 64, 4096, 262144, 16777216 }
-- Of the longest, in one go: two years.
local LONGEST_MAX = 4096

-- The field of a span: which length, and which one of that.
local function span(kind, index) return kind .. ':' .. format('%.0f', index) end

-- What becomes of spans, written at the end: tickets more or fewer of holds by their deadline, and of spans by their field.
local owed, owed_in, owes = {}, {}, false

-- So many tickets more, or fewer, of holds that end then and are not over yet.
local function owe(deadline, tickets)
  owed[deadline] = (owed[deadline] or 0) + tickets
  owes = true
end

-- Gives back the tickets of all holds that are over. Not while the sale is frozen: a hold may have been confirmed in what
-- was forgotten.
local due_before = due
local function lapse()
  if due == 0 or due > now or lapsed >= now or frozen_until > now then return end
  local first, past = max(lapsed + 1, due), now + 1
  past = min(past, first + LONGEST_MAX * SPANS[#SPANS])
  lapsed = past - 1
  local spans, starts_at, n = {}, {}, 0
  local function take(kind, start)
    n = n + 1
    spans[n], starts_at[n] = span(kind, start / SPANS[kind]), start
  end
  local from, to = first, past
  for kind, length in ipairs(SPANS) do
    local longer = SPANS[kind + 1]
    while from < to and (not longer or from % longer ~= 0) do
      take(kind, from)
      from = from + length
    end
    while from < to and to % longer ~= 0 do
      to = to - length
      take(kind, to)
    end
  end
  for i, tickets in ipairs(call('HMGET', KEYS[7], unpack(spans))) do
    if tickets then
      held = held - tickets
      owed_in[spans[i]] = -tickets
      owes = true
      -- What lies around it and goes on is that much less.
      for kind = 2, #SPANS do
        local index = floor(starts_at[i] / SPANS[kind])
        if index * SPANS[kind] < past and past < (index + 1) * SPANS[kind] then
          local name = span(kind, index)
          owed_in[name] = (owed_in[name] or 0) - tickets
        end
      end
    end
  end
  -- Nothing is written yet.
  if held < 0 then error('UNSOUND ' .. KEYS[1] .. ' has fewer tickets held than the holds that are over') end
end

local function save_owed()
  for deadline, tickets in pairs(owed) do
    for kind, length in ipairs(SPANS) do
      local name = span(kind, floor(deadline / length))
      owed_in[name] = (owed_in[name] or 0) + tickets
    end
  end
  local spans, n = {}, 0
  for name, tickets in pairs(owed_in) do
    if tickets ~= 0 then
      n = n + 1
      spans[n] = name
    end
  end
  for first = 1, n, 1000 do
    local last = min(n, first + 999)
    local stored, gone = {}, {}
    for i, tickets in ipairs(call('HMGET', KEYS[7], unpack(spans, first, last))) do
      local name = spans[first + i - 1]
      local sum = (tickets or 0) + owed_in[name]
      if sum == 0 then
        gone[#gone + 1] = name
      else
        stored[#stored + 1] = name
        stored[#stored + 1] = sum
      end
    end
    if #stored > 0 then call('HSET', KEYS[7], unpack(stored)) end
    if #gone > 0 then call('HDEL', KEYS[7], unpack(gone)) end
  end
end

-- Writes what changed in the counts, once, at the end of a script.
local function save()
  if owes then save_owed() end
  local booked = sequence ~= sequence_before
  if booked or owes then announce() end
  if owes or due ~= due_before then
    call('HSET', KEYS[1], 'held', held, 'sold', sold, 'sequence', sequence, 'clock', now, 'lapsed', lapsed, 'due', due,
      'announced', announced)
  elseif booked and announced ~= announced_before then
    call('HSET', KEYS[1], 'sold', sold, 'sequence', sequence, 'clock', now, 'announced', announced)
  elseif booked then
    call('HSET', KEYS[1], 'sold', sold, 'sequence', sequence, 'clock', now)
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

-- A right may be taken away while hosts sell, and a script that is denied a command after its first write would leave half
-- of itself. So before that it asks for every command that it may call: src/ledger/redis/scripts.rs puts their names here.
-- Redis 6.2 cannot be asked; there those that follow an entry of the log are called, with no effect.
local function ask_for_rights()
  local may = redis.acl_check_cmd
  if not may then
    call('HSET', KEYS[1], 'clock', now)
    call('ZADD', KEYS[3], 'XX', 0, '')
    call('ZREM', KEYS[3], '')
    call('HDEL', KEYS[1], '')
    return
  end
  for _, command in ipairs(COMMANDS) do
    if not may(command, KEYS[1]) then error('DENIED ' .. command) end
  end
end

-- Takes the next sequence and logs one change. A sale's entries have the same names in the same order, needed or not:
-- the stream then stores the names once a node. Only a sale without holds has no `expires_at`, except of a hold that was
-- made before it had none and is put back.
local function log(id, word, quantity, buyer, expires_at)
  if sequence == sequence_before then ask_for_rights() end
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

-- Letter, quantity, deadline (numbers) and terms (`2:u-81`, `1/2:u-81!1`) of a record, the buyer ('' for none), how long
-- it is held in all, and how often it was given to another buyer.
local function parts(record)
  local letter, quantity, of, deadline, length, rest = match(record, '^(%a)(%d*)(/?%d*)@?(%d*)%-?(%d*)(.*)$')
  local buyer, moves = match(rest, '^:?([^!]*)!?(%d*)')
  return letter, tonumber(quantity), tonumber(deadline), quantity .. of .. rest, buyer, tonumber(length),
    tonumber(moves) or 0
end

-- The buyer and the mark as they stand at the end of a record.
local function owner(buyer, moves) return (buyer == '' and '' or ':' .. buyer) .. (moves > 0 and '!' .. moves or '') end

-- The buyer's bucket, as src/ledger/redis/pack.rs reckons it too. The modulus is a prime.
local function bucket_of(buyer)
  local hash = 0
  for i = 1, #buyer do hash = (hash * 6007 + byte(buyer, i)) % 262139 end
  return format('%x', hash)
end

-- How a buyer stands in a bucket, before its tickets.
local function name_of(buyer) return ' ' .. buyer .. '=' end

-- A deadline in seven characters from `?` to `~`, which are in no name and no number (src/ledger/redis/bucket.rs has the
-- same). Good for a century.
local function stamp(deadline)
  local letters = {}
  for i = 7, 1, -1 do
    letters[i] = 63 + deadline % 64
    deadline = floor(deadline / 64)
  end
  return string.char(unpack(letters))
end

local function deadline_of(letters)
  local deadline = 0
  for i = 1, 7 do deadline = deadline * 64 + byte(letters, i) - 63 end
  return deadline
end

-- A hold as it stands behind its buyer's tickets.
local function held_until(deadline, quantity) return stamp(deadline) .. (quantity == 1 and '' or quantity) end

local HELD = string.rep('[?-~]', 7)

-- What a buyer has in a bucket: tickets confirmed; its holds that are not over, as they stand there, and their tickets; and
-- the bucket without it.
local function entry_in(bucket, name)
  local first, last = find(bucket, name, 1, true)
  if not first then return 0, '', 0, bucket end
  local tickets, holds, past = match(bucket, '^(%d+)([^ ]*)()', last + 1)
  local live, held = holds, 0
  if holds ~= '' then
    live = string.gsub(holds, '(' .. HELD .. ')(%d*)', function(letters, quantity)
      if deadline_of(letters) <= now then return '' end
      held = held + (tonumber(quantity) or 1)
    end)
  end
  return tonumber(tickets), live, held, sub(bucket, 1, first - 1) .. sub(bucket, past)
end

-- Tickets of a buyer that count towards its limit.
local function tickets_of(buyer)
  local confirmed, _, held = entry_in(call('HGET', KEYS[4], bucket_of(buyer)) or '', name_of(buyer))
  return confirmed + held
end

-- Adds to the confirmed tickets of a buyer, or takes away; ends one of its holds (`over`), begins another (`begun`), each
-- as `held_until` gives it, or ''. Holds that are over are dropped on the way.
local function count(buyer, tickets, over, begun)
  local field, name = bucket_of(buyer), name_of(buyer)
  local confirmed, holds, _, bucket = entry_in(call('HGET', KEYS[4], field) or '', name)
  confirmed = confirmed + tickets
  if over ~= '' then
    local first, last = 1, 0
    -- The same deadline with more digits is another hold.
    repeat
      first, last = find(holds, over, last + 1, true)
    until not first or not match(holds, '^%d', last + 1)
    if first then holds = sub(holds, 1, first - 1) .. sub(holds, last + 1) end
  end
  holds = holds .. begun
  if confirmed > 0 or holds ~= '' then bucket = bucket .. name .. max(confirmed, 0) .. holds end
  if bucket == '' then call('HDEL', KEYS[4], field) else call('HSET', KEYS[4], field, bucket) end
end

-- Gives back what a booking has, by its record as it was: its tickets, and its buyer's.
local function give_back(letter, quantity, deadline, buyer)
  if letter == 'h' or letter == 'H' then
    if deadline > lapsed then
      held = held - quantity
      owe(deadline, -quantity)
    end
    if letter == 'H' then count(buyer, 0, held_until(deadline, quantity), '') end
  elseif letter == 'c' or letter == 'C' then
    sold = sold - quantity
    if letter == 'C' then count(buyer, -quantity, '', '') end
  end
end

-- Expires those of these bookings that are held and overdue. One that was extended may be among them twice: of two groups.
local function expire(bookings)
  local records = call('HMGET', KEYS[2], unpack(bookings))
  local changed, n, done = {}, 0, {}
  for i, booking in ipairs(bookings) do
    local letter, quantity, deadline, terms, buyer = parts(records[i] or 't')
    if (letter == 'h' or letter == 'H') and deadline <= now and not done[booking] then
      done[booking] = true
      log(text(booking), 'expired', quantity, buyer, '')
      give_back(letter, quantity, deadline, buyer)
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

-- Removes the spans in which these deadlines were and that are over: a longer one was taken in their place.
local function forget_spans(deadlines)
  local spans, seen, n = {}, {}, 0
  for deadline in pairs(deadlines) do
    for kind, length in ipairs(SPANS) do
      local index = floor(deadline / length)
      local name = span(kind, index)
      if (index + 1) * length - 1 <= lapsed and not seen[name] then
        n = n + 1
        spans[n], seen[name], owed_in[name] = name, true, nil
      end
    end
  end
  if n > 0 then call('HDEL', KEYS[7], unpack(spans)) end
end

local function first_deadline()
  local first = call('ZRANGEBYSCORE', KEYS[3], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return tonumber(first[2]) or 0
end

-- Bookkeeping behind `lapse`: records of holds that are over become expired, oldest first, at most as many as the first
-- word says, and groups of 64 whole. A call that books sweeps one group, so that in the log what came back is before what
-- it was sold as, unless very many ended at once.
local function sweep(words)
  -- A key of another type fails here, before the first write.
  if hold or due > 0 then
    call('ZRANGEBYSCORE', KEYS[3], 0, 0, 'LIMIT', 0, 1)
    call('HGET', KEYS[7], '')
  end
  if counts then call('HGET', KEYS[4], '') end
  lapse()
  local limit = frozen_until > now and 0 or tonumber(match(words, '^%d+'))
  if due == 0 or due > now or limit == 0 then return end
  local deadlines = {}
  while limit > 0 do
    local groups = call('ZRANGEBYSCORE', KEYS[3], '-inf', lapsed, 'WITHSCORES', 'LIMIT', 0, 4)
    local done, bookings = {}, {}
    for g = 1, #groups, 2 do
      local before = #bookings
      ungroup(groups[g], bookings)
      if #bookings > limit then
        for i = #bookings, before + 1, -1 do bookings[i] = nil end
        limit = 0
        break
      end
      done[#done + 1] = groups[g]
      deadlines[tonumber(groups[g + 1])] = true
    end
    if #done == 0 then break end
    expire(bookings)
    call('ZREM', KEYS[3], unpack(done))
    limit = limit - #bookings
  end
  forget_spans(deadlines)
  due = first_deadline()
end

-- A group of holds with this deadline, for the sweep.
local function hold_until(deadline, group)
  call('ZADD', KEYS[3], deadline, group)
  if due == 0 or deadline < due then due = deadline end
end

-- A booking's line in a reply: its record, without the mark of being counted. `-` where there is none. A hold that is
-- overdue is told as expired.
local function line(record)
  if not record or record == 't' then return '-' end
  local letter, _, deadline, terms = parts(record)
  if deadline and deadline <= now then return 'e' .. terms end
  return string.lower(letter) .. sub(record, 2)
end
