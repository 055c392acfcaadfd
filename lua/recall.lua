-- Names sales that a host knows, where their names are gone: the ledger has lost them then, and nobody opens them as if they
-- were new. Stands alone, without sale.lua in front.
--
-- KEYS  1 bx:sales     set: the names of all sales
--       2 bx:removed   sorted set: sale -> when it was removed
-- ARGV  of each sale two: its name, and when the sale that the host knows was opened
-- Reply a letter a sale, in order: `k` it is named; `r` it was removed since it was opened, and is not named again
-- Invariant: a sale that was removed on purpose is not brought back by a host that has yet to hear of it.

local reply = {}
for i = 1, #ARGV, 2 do
  local removed = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if removed and tonumber(removed) >= tonumber(ARGV[i + 1]) then
    reply[#reply + 1] = 'r'
  else
    redis.call('SADD', KEYS[1], ARGV[i])
    reply[#reply + 1] = 'k'
  end
end
return table.concat(reply)
