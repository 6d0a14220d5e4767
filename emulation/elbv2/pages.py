"""What a load balancer answers by itself, as an Application Load Balancer words it.

Source: Troubleshoot your Application Load Balancers, The load balancer generates an HTTP error.
"""

from http import HTTPStatus

SERVER = "awselb/2.0"
_TITLES = {503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out", 408: "408 Request Time-out"}


def page(status: int) -> str:
    """The HTML of an error or a redirect."""
    title = _TITLES.get(status) or f"{status} {HTTPStatus(status).phrase}"
    lines = [
        "<html>",
        f"<head><title>{title}</title></head>",
        "<body>",
        f"<center><h1>{title}</h1></center>",
        "</body>",
        "</html>",
    ]
    return "".join(f"{line}\r\n" for line in lines)


REQUEST_SCRIPT = """
math.randomseed(os.time() + math.floor(os.clock() * 1000000))

local function trace_id()
  local function part() return string.format("%08x", math.random(0, 0x7fffffff)) end
  return string.format("1-%08x-", os.time()) .. part() .. part() .. part()
end

local function trace(headers)
  local given = headers:get("x-amzn-trace-id")
  if given == nil then
    headers:add("x-amzn-trace-id", "Root=" .. trace_id())
  elseif given:find("Root=", 1, true) == nil then
    headers:replace("x-amzn-trace-id", "Root=" .. trace_id() .. ";" .. given)
  else
    headers:replace("x-amzn-trace-id", "Self=" .. trace_id() .. ";" .. given:gsub("Self=[^;]*;?", ""))
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  trace(headers)
  local to = handle:metadata():get("redirect")
  if to == nil then return end
  local path, query = headers:get(":path"):match("^/?([^?]*)%??(.*)$")
  local known = {
    protocol = to.protocol, port = to.port, path = path, query = query,
    host = headers:get(":authority"):match("^(.-):?%d*$"),
  }
  local location = to.location:gsub("#{(%l+)}", known):gsub("%?$", "")
  local answer = {[":status"] = to.status, ["location"] = location, ["server"] = to.server}
  answer["content-type"] = "text/html"
  handle:respond(answer, to.page)
end
"""
"""Lua for Envoy: the tracing header of each request, and redirects.

Source: Request tracing for your Application Load Balancer; Redirect actions.
"""
