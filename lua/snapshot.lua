-- Reads the sale's state. Every host asks this for every sale every 200 ms.
--
-- KEYS  as in sale.lua
-- ARGV  none
-- Reply the state alone
-- Invariant: reads the stock hash and the clock, writes nothing.

if not field[1] then return 'missing' end
return state()
