-- Feedback events as Seldon's executor sends them, each with ids of its own, for wrk.
-- Arguments after `--`: id prefix (18 characters of a UUID), series, classes (0: rows of three probabilities), events a POST.
-- The text around the ids is made once: formatting every request anew would make wrk the slower side.

local STRUCTURED = [[{"specversion":"1.0","id":"@ID@","type":"io.seldon.serving.feedback","source":"http://:8000/",]]
    .. [["time":"@TIME@","requestid":"@REQUEST@","modelid":"classifier","inferenceservicename":"@SERIES@","namespace":"shop",]]
    .. [["endpoint":"main","protocol":"seldon","datacontenttype":"application/json","data":@BODY@}]]
local PROBABILITIES = [=[{"response":{"data":{"ndarray":[[0.1,0.2,0.7]]}},"truth":{"data":{"ndarray":[[0,0,1]]}}}]=]
local LABELS = [=[{"response":{"data":{"ndarray":[@P@]}},"truth":{"data":{"ndarray":[@T@]}}}]=]

local prefix, series, classes, batch
local count = 0
local values = {}
local parts, slots

-- Cuts a template at its @NAME@ marks; `slots` says which parts are to be filled with what.
local function cut(template)
    local from = 1
    parts, slots = {}, {}
    for start, name, stop in template:gmatch("()@(%u+)@()") do
        parts[#parts + 1] = template:sub(from, start - 1)
        parts[#parts + 1] = ""
        slots[#slots + 1] = { name = name, at = #parts }
        from = stop
    end
    parts[#parts + 1] = template:sub(from)
end

local function next_event()
    count = count + 1
    values.ID = string.format("%s-%04x-%012x", prefix, math.random(0, 65535), count)
    values.REQUEST = string.format("%s-%04x-%012x", prefix, math.random(0, 65535), count)
    if series > 1 then
        values.SERIES = "wine-" .. count % series
    end
    if classes > 0 then
        local truth = math.random(0, classes - 1)
        -- One prediction in ten is wrong. A label is as wide as its mark: Content-Length is already in the template.
        values.T = string.format("%3d", truth)
        values.P = count % 10 > 0 and values.T or string.format("%3d", math.random(0, classes - 1))
    end
    for _, slot in ipairs(slots) do
        parts[slot.at] = values[slot.name]
    end
    return table.concat(parts)
end

local function binary(body)
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Ce-Specversion"] = "1.0"
    wrk.headers["Ce-Id"] = "@ID@"
    wrk.headers["Ce-Type"] = "io.seldon.serving.feedback"
    wrk.headers["Ce-Source"] = "http://:8000/"
    wrk.headers["Ce-Time"] = values.TIME
    wrk.headers["Ce-Requestid"] = "@REQUEST@"
    wrk.headers["Ce-Modelid"] = "classifier"
    wrk.headers["Ce-Inferenceservicename"] = "@SERIES@"
    wrk.headers["Ce-Namespace"] = "shop"
    wrk.headers["Ce-Endpoint"] = "main"
    wrk.headers["Ce-Protocol"] = "seldon"
    wrk.headers["Ce-Traceparent"] = "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00"
    wrk.headers["Traceparent"] = "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00"
    wrk.headers["User-Agent"] = "Go-http-client/1.1"
    wrk.headers["Accept-Encoding"] = "gzip"
    return wrk.format("POST", "/", nil, body)
end

function init(arguments)
    prefix, series, classes, batch = arguments[1], tonumber(arguments[2]), tonumber(arguments[3]), tonumber(arguments[4])
    math.randomseed(os.time())
    values.TIME = os.date("!%Y-%m-%dT%H:%M:%S") .. ".120934511Z"
    values.SERIES = "wine"
    local body = classes > 0 and LABELS or PROBABILITIES
    if batch > 1 then
        cut((STRUCTURED:gsub("@BODY@", body)))
        wrk.headers["Content-Type"] = "application/cloudevents-batch+json"
    else
        cut(binary(body))
    end
end

function request()
    if batch == 1 then
        return next_event()
    end
    local events = {}
    for i = 1, batch do
        events[i] = next_event()
    end
    return wrk.format("POST", "/", nil, "[" .. table.concat(events, ",") .. "]")
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    local micros = { summary.duration, latency:percentile(50), latency:percentile(99) }
    print(string.format("RESULT %d %d %d %d %d", summary.requests, failed, unpack(micros)))
end
