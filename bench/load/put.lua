-- wrk: books with ids of the client's own, each a new one. PUT /v1/sales/ticket/bookings/PREFIX-THREAD-NUMBER
local threads = 0

function setup(thread)
    thread:set("thread_number", threads)
    threads = threads + 1
end

function init(arguments)
    local prefix = arguments[1] or "wrk"
    path = "PUT /v1/sales/ticket/bookings/" .. prefix .. "-" .. thread_number .. "-"
    rest = " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Length: 0\r\n\r\n"
    number = 0
end

function request()
    number = number + 1
    return path .. number .. rest
end
