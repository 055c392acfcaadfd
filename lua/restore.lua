-- Puts back what clients were last told of bookings, where this ledger has forgotten it.
--
-- KEYS  as in sale.lua
-- ARGV  1 `0`, and what the caller has seen (sale.lua); then for each booking three: as it is stored, its id as text where
--       that differs (else ''), and the record that it was told as: `h2@1763827200123:u-81`, `c1/2`, `x1`
-- Reply a line a booking, in order: `=` it stands, as told or as of later; `+` put back; `s` lost, its tickets are sold to
--       others; `r` lost, its id is another booking's, or a tombstone's. `withheld` alone where this is another sale than
--       the caller has seen.
-- Invariant: stock is taken only where held + sold + quantity <= total, whatever the buyer's limit: what was acknowledged
-- comes first. What is found forgotten freezes the sale. Of what is lost a field stays in `lost`, the booking as it is
-- stored: `sold-out` or `id-taken`, a space and the record. A field `@<ms>` says when something was found forgotten: the
-- sequence that a host had seen, a space, and the one that was left.

if refused then return refused end
local its_lineage, its_sequence, stranger = seen_in(ARGV[1])
if stranger then return state() .. '\nwithheld' end

-- A key of another type fails here, before the first write.
call('HGET', KEYS[2], '')
call('ZRANGEBYSCORE', KEYS[3], 0, 0, 'LIMIT', 0, 1)
call('HGET', KEYS[4], '')
call('HGET', KEYS[6], '')

-- What a booking was made with, before it gave anything back.
local function made_with(terms) return match(terms, '^%d+/(%d+)') or match(terms, '^%d+') end

local less = is_less_than(its_lineage, its_sequence)
local forgotten = less
local reply = {}
for i = 2, #ARGV, 3 do
  local booking, id = ARGV[i], ARGV[i + 1]
  if id == '' then id = booking end
  local told, quantity, deadline, terms, buyer, _, moves = parts(ARGV[i + 2])
  local record = call('HGET', KEYS[2], booking)
  local letter, its_quantity, its_deadline, its_terms, its_buyer, length, its_moves = parts(record or 't')
  local is_held = letter == 'h' or letter == 'H'
  -- One that was given to another buyer meanwhile is still the same.
  local is_same = its_quantity and made_with(its_terms) == made_with(terms)
    and (its_buyer == buyer or its_moves ~= moves)
  -- A booking never gets more tickets than it has: of two words that with fewer is the later.
  local gave_more = is_same and quantity < its_quantity
  local amount = match(terms, '^[%d/]+')
  if is_same and its_quantity < quantity then quantity, amount = its_quantity, match(its_terms, '^[%d/]+') end
  local moved_on = is_same and moves > its_moves
  if is_same and not moved_on then buyer, moves = its_buyer, its_moves end
  -- A hold whose tickets went back already has to find others.
  local has_stock = is_held and its_deadline > lapsed
  local fits = has_stock or held + sold + quantity <= total
  local mark, word, now_is = '=', nil, nil
  if not record then
    if told == 'x' then
      word, now_is = 'cancelled', 'x'
    elseif told == 'h' and deadline <= now then
      word, now_is = 'expired', 'e'
    elseif fits then
      word, now_is = told == 'h' and 'held' or 'confirmed', told
    else
      mark = 's'
    end
  elseif not is_same then
    if told ~= 'x' then mark = 'r' end
  elseif told == 'x' then
    if letter ~= 'x' then word, now_is = 'cancelled', 'x' end
  elseif told == 'c' then
    if is_held or letter == 'e' then
      if fits then
        word, now_is = 'confirmed', 'c'
      else
        mark = 's'
      end
    end
  elseif deadline > now and (letter == 'e' or is_held and its_deadline < deadline) then
    -- It was extended, or held again.
    length = length and length + deadline - its_deadline
    if fits then
      word, now_is = 'held', 'h'
    else
      mark = 's'
    end
  end
  if not word and mark == '=' and (gave_more or moved_on) then
    if is_held and its_deadline > now then
      word, now_is, deadline = 'held', 'h', its_deadline
    elseif letter == 'c' or letter == 'C' then
      word, now_is = 'confirmed', 'c'
    end
  end
  if word then
    mark = '+'
    log(id, word, quantity, buyer, word == 'held' and format('%.0f', deadline) or '')
    give_back(letter, its_quantity, its_deadline, its_buyer)
    local is_counted = counts and buyer ~= '' and (now_is == 'h' or now_is == 'c')
    if now_is == 'h' then
      held = held + quantity
      owe(deadline, quantity)
      local group = booking .. ' '
      local before = tonumber(call('ZSCORE', KEYS[3], group) or '')
      if before and before <= lapsed then forget_spans({ [before] = true }) end
      hold_until(deadline, group)
      if is_counted then count(buyer, 0, '', held_until(deadline, quantity)) end
    elseif now_is == 'c' then
      sold = sold + quantity
      if is_counted then count(buyer, quantity, '', '') end
    end
    local stored = (is_counted and string.upper(now_is) or now_is) .. amount
    if now_is == 'h' then
      stored = stored .. format('@%.0f', deadline) .. (length and format('-%.0f', length) or '')
    end
    call('HSET', KEYS[2], booking, stored .. owner(buyer, moves))
    -- A hold that is over makes good nothing of a confirmation that is lost.
    if now_is ~= 'e' then call('HDEL', KEYS[6], booking) end
  elseif mark ~= '=' then
    call('HSET', KEYS[6], booking, (mark == 's' and 'sold-out ' or 'id-taken ') .. ARGV[i + 2])
  end
  forgotten = forgotten or word or mark == 's'
  reply[#reply + 1] = mark
end
if forgotten then freeze(its_lineage, its_sequence, less) end
save()
return state() .. '\n' .. table.concat(reply, '\n')
