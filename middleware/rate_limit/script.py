"""The arithmetic of `middleware.core.window` and `.quota` once more, in Lua, for a store that
several replicas share: Redis runs it in one step, by its own clock.

An account is one key: its states, in MessagePack. Answered to `take`: 1 or 0, then for each limit
what is left, the reset, the wait, and the mark. Milliseconds, all of them.
"""

from __future__ import annotations

from ..core.window import MARKS

CLOCK = """\
local clock = redis.call('time')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""
"""Replicas need not agree on the time: it is Redis's."""

SCRIPT = (
    CLOCK
    + f"local MARKS = {MARKS}\n"
    + """\
local asked, strategy, keep, cost = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local amounts, spans, marks = {}, {}, {}
for at = 5, #ARGV, 3 do
  local n = #amounts + 1
  amounts[n], spans[n] = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  marks[n] = tonumber(ARGV[at + 2])
end

local function ceil(a, b) return math.ceil(a / b) end
local function floor(a, b) return math.floor(a / b) end

local function seen_as(count, room, span)
  if count == 0 then return 0 end
  return math.max(0, span - floor((room + 1) * span - 1, count))
end

local kinds = {}

kinds.fixed_window = {
  roll = function(s, amount, span)
    if not s[1] or now < s[1] - span or now >= s[1] then s[1], s[2] = now + span, 0 end
  end,
  used = function(s) return s[2] end,
  wait = function(s, amount, span, cost)
    if s[2] + cost <= amount then return 0 end
    return s[1] - now
  end,
  reset = function(s) return s[2] > 0 and s[1] - now or 0 end,
  take = function(s, amount, span, cost)
    if s[2] == 0 then s[1] = now + span end
    s[2] = s[2] + cost
    return s[1]
  end,
  give = function(s, amount, span, mark, delta)
    if s[1] == mark then s[2] = math.max(0, s[2] + delta) end
  end,
}

local sliding = {}
kinds.sliding_window_counter = sliding
function sliding.roll(s, amount, span)
  local index = floor(now, span)
  if s[1] == index then return end
  s[1], s[2], s[3] = index, 0, s[1] == index - 1 and s[2] or 0
end
function sliding.used(s, amount, span)
  return s[2] + floor(s[3] * (span - now % span), span)
end
function sliding.wait(s, amount, span, cost)
  local room, elapsed = amount - cost, now % span
  if sliding.used(s, amount, span) <= room then return 0 end
  if s[2] <= room then
    local at = seen_as(s[3], room - s[2], span)
    if at < span then return at - elapsed end
  end
  return span - elapsed + seen_as(s[2], room, span)
end
function sliding.reset(s, amount, span)
  local elapsed = now % span
  if s[2] > 0 then return span - elapsed + seen_as(s[2], 0, span) end
  return math.max(0, seen_as(s[3], 0, span) - elapsed)
end
function sliding.take(s, amount, span, cost)
  s[2] = s[2] + cost
  return s[1]
end
function sliding.give(s, amount, span, mark, delta)
  if mark == s[1] then s[2] = math.max(0, s[2] + delta)
  elseif mark == s[1] - 1 then s[3] = math.max(0, s[3] + delta) end
end

local moving = {}
kinds.moving_window = moving
local function grain(amount, span)
  return amount <= MARKS and 1 or math.max(1, floor(span, MARKS))
end
function moving.roll(s, amount, span)
  if not s[1] or (#s > 1 and s[#s - 1] > now + grain(amount, span)) then
    for at = #s, 2, -1 do s[at] = nil end
    s[1] = 0
  end
  local gone = 2
  while gone < #s and s[gone] + span <= now do
    s[1] = s[1] - s[gone + 1]
    gone = gone + 2
  end
  if gone > 2 then
    local size = #s
    for at = 2, size do s[at] = s[at + gone - 2] end
  end
  if not s[2] then s[1] = 0 end
end
function moving.used(s) return s[1] end
function moving.wait(s, amount, span, cost)
  local left, room, at = s[1], amount - cost, 2
  if left <= room then return 0 end
  while left > room do
    left = left - s[at + 1]
    at = at + 2
  end
  return s[at - 2] + span - now
end
function moving.reset(s, amount, span) return s[1] > 0 and s[#s - 1] + span - now or 0 end
function moving.take(s, amount, span, cost)
  local one = grain(amount, span)
  local at = ceil(now, one) * one
  if #s > 1 and s[#s - 1] >= at then
    at = s[#s - 1]
    s[#s] = s[#s] + cost
  else
    local size = #s
    s[size + 1], s[size + 2] = at, cost
  end
  s[1] = s[1] + cost
  return at
end
function moving.give(s, amount, span, mark, delta)
  for at = 2, #s, 2 do
    if s[at] == mark then
      local left = math.max(0, s[at + 1] + delta)
      s[1] = s[1] - s[at + 1] + left
      s[at + 1] = left
      if left == 0 then
        table.remove(s, at)
        table.remove(s, at)
      end
      return
    end
  end
end

local kind = kinds[strategy]

local function decide(states)
  local waits, admitted, told = {}, true, {}
  for n, amount in ipairs(amounts) do
    kind.roll(states[n], amount, spans[n])
    waits[n] = kind.wait(states[n], amount, spans[n], cost)
    admitted = admitted and waits[n] == 0
  end
  told[1] = admitted and 1 or 0
  for n, amount in ipairs(amounts) do
    local s, span, mark = states[n], spans[n], 0
    if admitted then mark = kind.take(s, amount, span, cost) end
    told[#told + 1] = math.max(0, amount - kind.used(s, amount, span))
    told[#told + 1] = kind.reset(s, amount, span)
    told[#told + 1] = waits[n]
    told[#told + 1] = mark
  end
  return told
end

local function correct(states)
  for n, amount in ipairs(amounts) do
    kind.roll(states[n], amount, spans[n])
    if cost > 0 then kind.take(states[n], amount, spans[n], cost)
    else kind.give(states[n], amount, spans[n], marks[n], cost) end
  end
  return 1
end

local function fresh()
  local states = {}
  for n = 1, #amounts do states[n] = {} end
  return states
end

local act = asked == 'take' and decide or correct
local raw = redis.pcall('get', KEYS[1])
local states
local known, told = false, nil
if type(raw) == 'string' then
  known, told = pcall(function()
    states = cmsgpack.unpack(raw)
    return act(states)
  end)
end
if not known then
  states = fresh()
  told = act(states)
end
redis.call('set', KEYS[1], cmsgpack.pack(states), 'px', keep)
return told
"""
)
