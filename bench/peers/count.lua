-- The peer's order: a counter and nothing more. KEYS[1]: hash with total and sold. Replies 1, or 0 where sold out.
local stock = redis.call('HMGET', KEYS[1], 'total', 'sold')
if tonumber(stock[2]) < tonumber(stock[1]) then
    redis.call('HINCRBY', KEYS[1], 'sold', 1)
    return 1
end
return 0
