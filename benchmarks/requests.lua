-- Requests of one form for wrk, each with a number of its own.
-- Arguments after `--`: method, path, content type, body, how many things the requests are about in turn, and the first number.
-- `@NNNNNNNNNN@` is the number of a request, `@TTTT@` that of its thing; the marks are as wide as what takes their place.

local parts, slots = {}, {}
local things, sent = 1, 0

function init(arguments)
    wrk.headers["Content-Type"] = arguments[3]
    things, sent = tonumber(arguments[5]), tonumber(arguments[6]) - 1
    local template, from = wrk.format(arguments[1], arguments[2], nil, arguments[4]), 1
    for start, mark, stop in template:gmatch("()@([NT]+)@()") do
        parts[#parts + 1] = template:sub(from, start - 1)
        parts[#parts + 1] = ""
        slots[#slots + 1] = { at = #parts, is_thing = mark:sub(1, 1) == "T", form = "%0" .. #mark + 2 .. "x" }
        from = stop
    end
    parts[#parts + 1] = template:sub(from)
end

function request()
    sent = sent + 1
    for _, slot in ipairs(slots) do
        parts[slot.at] = string.format(slot.form, slot.is_thing and sent % things or sent)
    end
    return table.concat(parts)
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    print(string.format("RESULT %d %d %d %d %d", summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
