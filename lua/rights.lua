-- Whether the user of this connection may call what the scripts call, and whether Redis takes writes at all. Asked before
-- the first call on a connection, and again and again while it is used: a script that is denied a command after its first
-- write leaves half of itself. Alone of all scripts it has no sale.lua in front.
--
-- KEYS  1 a key that every user of ours may use; none on a Cluster, where each node is asked and has other slots
-- ARGV  1 `1` on a new connection, else `0`; then the commands, a subcommand after a space
-- Reply a line each: `denied` or `unknown` (renamed, or of a later Redis) and the command; `refused` and what Redis says
--       to a write; `may INFO` where the user may ask that as well. Nothing where all is well.
-- Invariant: changes nothing, but for one field of a key of its own that is there and gone again, on Redis 6.2 and a new
-- connection.

local PROBE = 'bx:probe'

-- Redis 7 answers for every command there is, whatever its arguments, and makes no entry in ACL LOG.
local may = redis.acl_check_cmd

-- Redis 6.2 does not: there each command is tried, with arguments that have no effect on a key that is not there (`k`).
-- Those after a `!` have none on a hash, which is made for that.
local FORMS = {
  ['TIME'] = '', ['EXISTS'] = 'k', ['TYPE'] = 'k', ['DEL'] = 'k', ['UNLINK'] = 'k', ['TTL'] = 'k', ['PTTL'] = 'k',
  ['EXPIRE'] = 'k 1', ['PEXPIRE'] = 'k 1', ['PERSIST'] = 'k',
  ['GET'] = 'k', ['MGET'] = 'k', ['SET'] = 'k a XX', ['INCR'] = '!k', ['DECR'] = '!k', ['INCRBY'] = 'k a',
  ['DECRBY'] = 'k a', ['STRLEN'] = 'k', ['APPEND'] = '!k a', ['GETDEL'] = 'k',
  ['SADD'] = '!k a', ['SREM'] = 'k a', ['SMEMBERS'] = 'k', ['SISMEMBER'] = 'k a', ['SCARD'] = 'k', ['SSCAN'] = 'k 0',
  ['HSET'] = 'k a b c', ['HGET'] = 'k a', ['HMGET'] = 'k a', ['HDEL'] = 'k a', ['HINCRBY'] = 'k a b', ['HLEN'] = 'k',
  ['HEXISTS'] = 'k a', ['HGETALL'] = 'k', ['HKEYS'] = 'k', ['HVALS'] = 'k', ['HSCAN'] = 'k 0', ['HSTRLEN'] = 'k a',
  ['ZADD'] = 'k XX 0 a', ['ZREM'] = 'k a', ['ZSCORE'] = 'k a', ['ZMSCORE'] = 'k a', ['ZCARD'] = 'k',
  ['ZCOUNT'] = 'k 0 0', ['ZRANGE'] = 'k 0 0', ['ZRANGEBYSCORE'] = 'k 0 0', ['ZREVRANGE'] = 'k 0 0',
  ['ZREVRANGEBYSCORE'] = 'k 0 0', ['ZREMRANGEBYSCORE'] = 'k 0 0', ['ZPOPMIN'] = 'k', ['ZINCRBY'] = 'k a b',
  ['ZSCAN'] = 'k 0',
  ['XADD'] = 'k NOMKSTREAM * a b', ['XDEL'] = 'k 1-1', ['XLEN'] = 'k', ['XRANGE'] = 'k - +', ['XREVRANGE'] = 'k + -',
  ['XTRIM'] = 'k MAXLEN 0', ['XINFO GROUPS'] = 'k', ['XINFO STREAM'] = 'k', ['XPENDING'] = 'k a',
}

local function error_of(reply) return type(reply) == 'table' and reply.err or '' end

local function ask(command)
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word end
  words[#words + 1] = KEYS[1] or 'bx:sales'
  local is_known, allowed = pcall(may, unpack(words))
  if not is_known then return 'unknown' end
  return not allowed and 'denied'
end

local function try(command)
  local form = FORMS[command]
  if not form then return false end
  local needs_hash = string.sub(form, 1, 1) == '!'
  if needs_hash and (ARGV[1] ~= '1' or error_of(redis.pcall('HSET', PROBE, 'a', 'b')) ~= '') then return false end
  local words = {}
  for word in string.gmatch(command .. ' ' .. form, '[^ !]+') do words[#words + 1] = word == 'k' and PROBE or word end
  local said = error_of(redis.pcall(unpack(words)))
  if needs_hash then redis.pcall('HDEL', PROBE, 'a') end
  if string.find(said, "can't run this command", 1, true) then return 'denied' end
  return string.find(said, 'Unknown Redis command', 1, true) and 'unknown'
end

local reply = {}
-- A write with no effect is refused as any other: the first of a script, that is. A node of a Cluster that has another slot
-- than the key says so last, where nothing else is in the way.
local is_known, allowed = true, true
if may then is_known, allowed = pcall(may, 'ZADD', PROBE) end
if is_known and allowed then
  local said = error_of(redis.pcall('ZADD', PROBE, 'XX', 0, 'a'))
  if said ~= '' then reply[1] = 'refused ' .. said end
end
for i = 2, #ARGV do
  local finding = (may and ask or try)(ARGV[i])
  if finding then reply[#reply + 1] = finding .. ' ' .. ARGV[i] end
end
if may and may('INFO') then reply[#reply + 1] = 'may INFO' end
return table.concat(reply, '\n')
