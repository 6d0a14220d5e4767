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


TRACE_SCRIPT = """
math.randomseed(os.time() + math.floor(os.clock() * 1000000))
local format, random, time = string.format, math.random, os.time

local function identity(field)
  local one, two, three = random(0, 2147483647), random(0, 2147483647), random(0, 2147483647)
  return format("%s=1-%08x-%08x%08x%08x", field, time(), one, two, three)
end

local function trace(headers)
  local given = headers:get("x-amzn-trace-id")
  if given == nil then
    headers:add("x-amzn-trace-id", identity("Root"))
  elseif given:find("Root=", 1, true) == nil then
    headers:replace("x-amzn-trace-id", identity("Root") .. ";" .. given)
  else
    headers:replace("x-amzn-trace-id", identity("Self") .. ";" .. given:gsub("Self=[^;]*;?", ""))
  end
end

function envoy_on_request(handle)
  trace(handle:headers())
end
"""
"""Lua for Envoy: the tracing header of each request. Source: Request tracing for your Application Load Balancer."""

REDIRECT_SCRIPT = """
function envoy_on_request(handle)
  local headers, to = handle:headers(), handle:metadata():get("redirect")
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
"""The same for redirects, whose routes have what they lead to as metadata. Source: Redirect actions."""
