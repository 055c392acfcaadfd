-- Sweeps holds that are over: their tickets are back already. Any number of hosts may call it at once.
--
-- KEYS  as in sale.lua
-- ARGV  1 most holds to expire
-- Reply the state alone; there is more to do while its `due` is not later than its time, and it is not frozen
-- Invariant: a hold is expired once, and only after its deadline by this clock.

if refused then return refused end
sweep(ARGV[1])
save()
return state()
