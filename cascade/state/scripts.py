"""The steps of a shared state in Valkey or Redis, each one atomic script.

Keys have the hash tag ``{cascade}``, so that a cluster keeps them in one slot. Of each budget there is a hash of what was
spent, in all and by process, and a hash of what processes hold. That a process states what it has spent in all, instead
of adding to it, makes every step safe to repeat, and restores what a server has lost.
"""

_COMMON = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local function text(number) return string.format('%.17g', number) end

-- States what this process has spent in a scope in all; what everybody has spent.
local function state_spent(key, owner, total)
  local known = tonumber(redis.call('HGET', key, owner) or '0')
  local spent = tonumber(redis.call('HGET', key, 'usd') or '0')
  if total > known then
    spent = spent + total - known
    redis.call('HSET', key, 'usd', text(spent), owner, text(total))
  end
  return spent
end

local function hold(key, owner, usd, expire_s)
  if usd > 0 then
    redis.call('HSET', key, owner, text(usd) .. ' ' .. text(now + expire_s))
  else
    redis.call('HDEL', key, owner)
  end
end

-- What processes other than ``owner`` hold of a scope; leases that have ended are removed.
local function held(key, owner)
  local sum, leases = 0, redis.call('HGETALL', key)
  for i = 1, #leases, 2 do
    local usd, ends = string.match(leases[i + 1], '^(%S+) (%S+)$')
    if tonumber(ends) < now then
      redis.call('HDEL', key, leases[i])
    elseif leases[i] ~= owner then
      sum = sum + tonumber(usd)
    end
  end
  return sum
end
"""

TAKE = (
    _COMMON
    + """
-- KEYS: the grace of lost data; then by scope: spent, held.
-- ARGV: owner, usd, share, expire_s, rounding; then by scope: limit, total, mine, reserved, unreported, keep_s.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'recovering'} end
local owner, usd, share = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local expire_s, rounding = tonumber(ARGV[4]), tonumber(ARGV[5])
local scopes, reply, holds = (#KEYS - 1) / 2, {'granted'}, {}
for i = 1, scopes do
  local spent_key, held_key, at = KEYS[2 * i], KEYS[2 * i + 1], 5 + (i - 1) * 6
  local limit, total, mine = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local reserved_here, unreported = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local entered = state_spent(spent_key, owner, total)
  local spent = entered + unreported
  local reserved = held(held_key, owner) + reserved_here
  if spent + reserved + math.max(0, usd - rounding) > limit or spent + reserved >= limit then
    return {'refused', tostring(i), text(spent), text(reserved), text(entered)}
  end
  local needed = math.max(0, usd - (mine - reserved_here - unreported))
  local granted = needed + share * math.max(0, limit - spent - reserved - usd)
  holds[i] = mine + granted
  table.insert(reply, text(granted))
  table.insert(reply, text(spent))
  table.insert(reply, text(entered))
end
for i = 1, scopes do
  local keep_s = ARGV[5 + (i - 1) * 6 + 6]
  hold(KEYS[2 * i + 1], owner, holds[i], expire_s)
  redis.call('EXPIRE', KEYS[2 * i], keep_s)
  redis.call('EXPIRE', KEYS[2 * i + 1], keep_s)
end
return reply
"""
)

ENTER = (
    _COMMON
    + """
-- KEYS: by scope: spent, held. ARGV: owner, expire_s; then by scope: total, held, keep_s.
local reply = {}
for i = 1, #KEYS / 2 do
  local at = 2 + (i - 1) * 3
  table.insert(reply, text(state_spent(KEYS[2 * i - 1], ARGV[1], tonumber(ARGV[at + 1]))))
  hold(KEYS[2 * i], ARGV[1], tonumber(ARGV[at + 2]), tonumber(ARGV[2]))
  redis.call('EXPIRE', KEYS[2 * i - 1], ARGV[at + 3])
  redis.call('EXPIRE', KEYS[2 * i], ARGV[at + 3])
end
return reply
"""
)

SPENT = (
    _COMMON
    + """
-- KEYS: spent, held.
return text(tonumber(redis.call('HGET', KEYS[1], 'usd') or '0') + held(KEYS[2], ''))
"""
)

TOKEN = (
    _COMMON
    + """
-- KEYS: the bucket, the mark of lost data. ARGV: interval_s, capacity. The seconds to wait; 0: a token was taken.
local interval, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local full, stored = now, redis.call('GET', KEYS[1])
if stored then
  full = math.max(now, tonumber(stored))
elseif redis.call('EXISTS', KEYS[2]) == 1 then
  full = now + capacity * interval  -- it may have been empty when it was lost
end
-- No bucket is emptier than empty, whatever a clock said that was set since.
full = math.min(full, now + capacity * interval) + interval
local wait = full - now - capacity * interval
if wait > 1e-6 then
  if not stored then redis.call('SET', KEYS[1], text(full - interval), 'PX', math.ceil((full - now) * 1000) + 1000) end
  return text(wait)
end
redis.call('SET', KEYS[1], text(full), 'PX', math.ceil((full - now) * 1000) + 1000)
return '0'
"""
)

OPEN = """
-- KEYS: the name of the data, the grace, the mark of lost data. ARGV: what this process knows as the name, or ''; a name for
-- data that has none; grace_ms; mark_ms. The name. Where the data is another than this process knows, it was lost.
redis.call('SET', KEYS[1], ARGV[2], 'NX')
local name = redis.call('GET', KEYS[1])
if ARGV[1] ~= '' and ARGV[1] ~= name and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
  redis.call('SET', KEYS[3], '1', 'PX', ARGV[4])
end
return name
"""
