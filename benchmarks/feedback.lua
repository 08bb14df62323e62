-- Events as Seldon's executor sends them, each with ids of its own, for wrk.
-- Arguments after `--`: id prefix (18 characters of a UUID), series, classes (0: rows of three probabilities), events a POST,
-- and how many POSTs a truth comes after its prediction (0: both come together, in one feedback event).
-- A whole POST is a template, cut once; a request only fills its marks in: formatting every event anew would make wrk the slower side.

local STRUCTURED = [[{"specversion":"1.0","id":"@ID@","type":"@TYPE@","source":"http://:8000/",]]
    .. [["time":"@TIME@","requestid":"@REQUEST@","modelid":"classifier","inferenceservicename":"@SERIES@","namespace":"shop",]]
    .. [["endpoint":"main","protocol":"seldon","datacontenttype":"application/json","data":@BODY@}]]
local FEEDBACK, RESPONSE = "io.seldon.serving.feedback", "io.seldon.serving.inference.response"
local PROBABILITIES = [=[{"response":{"data":{"ndarray":[[0.1,0.2,0.7]]}},"truth":{"data":{"ndarray":[[0,0,1]]}}}]=]
local LABELS = [=[{"response":{"data":{"ndarray":[@P@]}},"truth":{"data":{"ndarray":[@T@]}}}]=]
local PREDICTION = [=[{"data":{"names":["c0","c1","c2"],"ndarray":[[0.1,0.2,0.7]]}}]=]
local TRUTH = [=[{"truth":{"data":{"ndarray":[[0,0,1]]}}}]=]
-- The number of a POST. The mark is as wide as what takes its place: Content-Length is in the template already.
local NUMBER = "@NNNNNNNNNN@"

local prefix, series, classes, batch, lag
local values = {}
local pairs_post, prediction_post, truth_post
local sent, predicted, known = 0, 0, 1

-- Cuts a template at its @NAME@ marks; `slots` says which parts are to be filled with what.
local function cut(template)
    local from, parts, slots = 1, {}, {}
    for start, name, stop in template:gmatch("()@(%u+)@()") do
        parts[#parts + 1] = template:sub(from, start - 1)
        parts[#parts + 1] = ""
        slots[#slots + 1] = { name = name, at = #parts }
        from = stop
    end
    parts[#parts + 1] = template:sub(from)
    return { parts = parts, slots = slots }
end

local function filled(post, number)
    values.NNNNNNNNNN = string.format("%012x", number)
    if series > 1 then
        values.SERIES = "wine-" .. number % series
    end
    if classes > 0 then
        local truth = math.random(0, classes - 1)
        -- One prediction in ten is wrong. A label is as wide as its mark, too.
        values.T = string.format("%3d", truth)
        values.P = number % 10 > 0 and values.T or string.format("%3d", math.random(0, classes - 1))
    end
    for _, slot in ipairs(post.slots) do
        post.parts[slot.at] = values[slot.name]
    end
    return table.concat(post.parts)
end

local function binary(kind, body)
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Ce-Specversion"] = "1.0"
    wrk.headers["Ce-Id"] = prefix .. "-0000-" .. NUMBER
    wrk.headers["Ce-Type"] = kind
    wrk.headers["Ce-Source"] = "http://:8000/"
    wrk.headers["Ce-Time"] = values.TIME
    wrk.headers["Ce-Requestid"] = prefix .. "-f000-" .. NUMBER
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

-- All events of a POST have its number; what tells them apart is their place in it, which stands in the template.
local function batched(kind, body)
    wrk.headers["Content-Type"] = "application/cloudevents-batch+json"
    local event = STRUCTURED:gsub("@TYPE@", kind):gsub("@TIME@", values.TIME):gsub("@SERIES@", values.SERIES):gsub("@BODY@", body)
    local events = {}
    for place = 1, batch do
        local id = string.format("%s-0%03x-%s", prefix, place - 1, NUMBER)
        local request_id = string.format("%s-f%03x-%s", prefix, place - 1, NUMBER)
        events[place] = event:gsub("@ID@", id):gsub("@REQUEST@", request_id)
    end
    return wrk.format("POST", "/", nil, "[" .. table.concat(events, ",") .. "]")
end

function init(arguments)
    prefix = arguments[1]
    series, classes, batch, lag = tonumber(arguments[2]), tonumber(arguments[3]), tonumber(arguments[4]), tonumber(arguments[5])
    math.randomseed(os.time())
    values.TIME = os.date("!%Y-%m-%dT%H:%M:%S") .. ".120934511Z"
    values.SERIES = "wine"
    local post = batch > 1 and batched or binary
    if lag > 0 then
        prediction_post, truth_post = cut(post(RESPONSE, PREDICTION)), cut(post(FEEDBACK, TRUTH))
    else
        pairs_post = cut(post(FEEDBACK, classes > 0 and LABELS or PROBABILITIES))
    end
end

-- wrk calls this once to look at the result, and does not send it: no truth may come for the first prediction.
function request()
    if lag == 0 then
        sent = sent + 1
        return filled(pairs_post, sent)
    end
    if 2 * (predicted - known) > lag then
        known = known + 1
        return filled(truth_post, known)
    end
    predicted = predicted + 1
    return filled(prediction_post, predicted)
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    local micros = { summary.duration, latency:percentile(50), latency:percentile(99) }
    print(string.format("RESULT %d %d %d %d %d", summary.requests, failed, unpack(micros)))
end
