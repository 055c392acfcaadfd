-- Which ledger this is, and for how long; it is given a name where it has none. Stands alone, without sale.lua in front.
--
-- KEYS  1 bx:ledger   hash: id; since, when it was given, in ms; layout, what keys there are and what is in them
-- ARGV  1 the name that it gets where it has none
--       2 the layout of the caller, which has asked before whether the ledger is of a later one
-- Reply its name, a comma, and how many ms it has had it
-- Invariant: the name never changes: a ledger of another name, or of none, is not the one that a host knew.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'id', 'since', 'layout')
if not known[1] then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'since', string.format('%.0f', now))
  known = { ARGV[1], now, known[3] }
end
if not known[3] then redis.call('HSET', KEYS[1], 'layout', ARGV[2]) end
return known[1] .. ',' .. string.format('%.0f', math.max(0, now - (tonumber(known[2]) or 0)))
