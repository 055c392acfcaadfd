-- Reads one page of a part of the sale as it is stored, for an audit: nothing wrong is passed over, or stops it.
--
-- KEYS  as in sale.lua
-- ARGV  1 the part: bookings holds due buyers lost log changes; 2 the cursor ('' to start); 3 about how many
-- Reply a line: the cursor to go on with, 1 where this was the last page there is now (else 0), the sale's clock as it is
--       stored, and Redis' own, with commas between. Then rows, without anything between: a letter, how many strings, a
--       comma, and each string as its length, a colon and itself.
--         b booking, record    n booking (there is none of that id)    g group, deadline    u bucket, its buyers
--         f field of `lost`, its value    s span, its tickets
--         l id, name, value, ...
--       The cursor of `log` is the last entry's id, and `changes` goes on from there: each entry, and what is stored now of
--       its booking, of the groups of its deadline, and of its buyer's bucket.
-- Invariant: writes nothing; a row that exists all the while is on some page, and may be on two.

local OTHERS = { KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7] }
if refused == 'missing' and call('EXISTS', unpack(OTHERS)) > 0 then
  return redis.error_reply('UNSOUND ' .. KEYS[1] .. ' is gone, and other keys of the sale are there')
end
if refused == 'missing' then return refused end
-- Counts are told as they are stored, whatever that is: they follow from the bookings. Nothing else does.
local held_stored, sold_stored = field[2] or 'gone', field[3] or 'gone'
field[2], field[3], held, sold = '0', '0', 0, 0
local wrong = fault()
if wrong then return redis.error_reply('UNSOUND ' .. wrong) end
held, sold = held_stored, sold_stored
local part, cursor, limit = ARGV[1], ARGV[2], ARGV[3]

-- Most bytes of a value that is shown and not used to find something again.
local SHOWN_MAX = 512

local reply, n = {}, 2
local function row(letter, ...)
  local strings = { ... }
  for i, text in ipairs(strings) do strings[i] = #text .. ':' .. text end
  n = n + 1
  reply[n] = letter .. #strings .. ',' .. table.concat(strings)
end

-- How the booking of that id is stored (src/ledger/redis/codec.rs has the same rule).
local UUID = '^' .. string.rep('%x', 8) .. string.rep('%-' .. string.rep('%x', 4), 3) .. '%-' .. string.rep('%x', 12) .. '$'
local function stored(id)
  if id ~= string.lower(id) or not match(id, UUID) then return id end
  local hex = string.gsub(id, '-', '')
  return '\0' .. string.gsub(hex, '..', function(pair) return string.char(tonumber(pair, 16)) end)
end

local groups_told, buckets_told = {}, {}
local function tell_changed(id, buyer)
  local booking = stored(id)
  local record = call('HGET', KEYS[2], booking)
  if not record then
    row('n', sub(booking, 1, SHOWN_MAX))
  else
    row('b', sub(booking, 1, SHOWN_MAX), sub(record, 1, SHOWN_MAX))
    local deadline = match(record, '^[hH][%d/]+@(%d+)')
    if deadline and not groups_told[deadline] then
      groups_told[deadline] = true
      for _, group in ipairs(call('ZRANGEBYSCORE', KEYS[3], deadline, deadline)) do row('g', group, deadline) end
    end
  end
  local bucket = buyer ~= '' and bucket_of(buyer)
  if bucket and not buckets_told[bucket] then
    buckets_told[bucket] = true
    row('u', bucket, call('HGET', KEYS[4], bucket) or '')
  end
end

local done
if part == 'log' or part == 'changes' then
  local entries = call('XRANGE', KEYS[5], cursor == '' and '-' or '(' .. cursor, '+', 'COUNT', limit)
  for _, entry in ipairs(entries) do
    row('l', entry[1], unpack(entry[2], 1, math.min(#entry[2], 100)))
  end
  if part == 'changes' then
    for _, entry in ipairs(entries) do
      local value = {}
      for i = 1, #entry[2] - 1, 2 do value[entry[2][i]] = entry[2][i + 1] end
      if value.booking then tell_changed(value.booking, value.buyer or '') end
    end
  end
  done = #entries < tonumber(limit)
  if #entries > 0 then cursor = entries[#entries][1] end
else
  local scans = { bookings = { 'HSCAN', 2, 'b' }, holds = { 'ZSCAN', 3, 'g' }, buyers = { 'HSCAN', 4, 'u' },
    lost = { 'HSCAN', 6, 'f' }, due = { 'HSCAN', 7, 's' } }
  local command, key, letter = unpack(scans[part])
  local page = call(command, KEYS[key], cursor == '' and '0' or cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local first, second = page[2][i], page[2][i + 1]
    if letter == 'b' then first, second = sub(first, 1, SHOWN_MAX), sub(second, 1, SHOWN_MAX) end
    row(letter, first, second)
  end
  cursor, done = page[1], page[1] == '0'
end
local redis_ms = time[1] * 1000 + math.floor(time[2] / 1000)
reply[1] = state() .. '\n'
reply[2] = table.concat({ cursor, done and 1 or 0, tonumber(field[11]) or 0, redis_ms }, ',') .. '\n'
return table.concat(reply)
