-- Each connection's user reserves one image, and then rolls that reservation back. Against the echo: the same requests.
-- The answers of many connections come to one place: reservations wait in a list until a request rolls them back.

local tokens, waiting, next_user = {}, {}, 0
local settle = os.getenv("SETTLE") == "1"
local body = '{"amounts":{"images":1}}'

function init()
    for line in io.lines(os.getenv("TOKENS")) do
        tokens[#tokens + 1] = line
    end
end

local function headers(token)
    return { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
end

function request()
    local one = table.remove(waiting)
    if one then
        return wrk.format("POST", "/api/reservations/" .. one.id .. "/rollback", headers(one.token), "{}")
    end
    next_user = next_user % #tokens + 1
    return wrk.format("POST", "/api/reservations", headers(tokens[next_user]), body)
end

function response(status, _, answer)
    if settle and status == 201 then
        local id = answer:match('"reservationId":"([^"]+)"')
        local subject = answer:match('"subject":"user%-(%d+)"')
        waiting[#waiting + 1] = { id = id, token = tokens[tonumber(subject) + 1] }
    end
end
