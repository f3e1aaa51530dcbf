"""Token counts out of answers, inside Envoy: the bytes pass untouched and never visit the picker.

A Lua filter looks for the `usage` objects of the chunks that pass and copies their numbers into dynamic metadata, where
the access log finds them. Envoy's own `sse_to_metadata` would parse every event as JSON, and an event that is a bare
JSON scalar (`data: 0`) crashes Envoy 1.40 with all that runs through it; `json_to_metadata` would hold every answer
until it is whole.
"""

from stellwerk.control.envoy.document import Document, extension

NAMESPACE = "stellwerk.usage"
PROMPT, CACHED, OUTPUT = "prompt_tokens", "cached_tokens", "output_tokens"

_SCRIPT = r"""
local NAMES = {
  prompt_tokens = "PROMPT", input_tokens = "PROMPT",
  completion_tokens = "OUTPUT", output_tokens = "OUTPUT",
  cached_tokens = "CACHED", cache_read_input_tokens = "CACHED",
}
local LONGEST = 8192

-- The last count of each name wins: usage may come with every event. Returns what to put before the next chunk.
-- A quoted "usage" cannot stand inside a string, where its quotes would be escaped.
local function read(text, counts)
  local position = 1
  while true do
    local first, last = text:find('"usage"', position, true)
    if not first then return text:sub(-6) end
    local object = text:match("^%s*:%s*(%b{})", last + 1)
    if object then
      for name, count in object:gmatch('"([%w_]+)"%s*:%s*(%d+)%s*[,}]') do
        if NAMES[name] and #count <= 15 then counts[NAMES[name]] = tonumber(count) end
      end
    elseif #text - first < LONGEST and (text:find("^%s*:%s*{", last + 1) or text:find("^%s*:?%s*$", last + 1)) then
      return text:sub(first)
    end
    position = last + 1
  end
end

function envoy_on_response(handle)
  local content_type = (handle:headers():get("content-type") or ""):lower()
  if content_type:sub(1, 17) ~= "text/event-stream" and content_type:sub(1, 16) ~= "application/json" then return end
  local before, counts = "", {}
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      before = read(before .. chunk:getBytes(0, length), counts)
      for name, count in pairs(counts) do
        handle:streamInfo():dynamicMetadata():set("NAMESPACE", name, count)
        counts[name] = nil
      end
    end
  end
end
"""


def usage_filter() -> Document:
    """Looks at event streams and JSON documents, of any length."""
    script = _SCRIPT
    for name, value in {"NAMESPACE": NAMESPACE, "PROMPT": PROMPT, "OUTPUT": OUTPUT, "CACHED": CACHED}.items():
        script = script.replace(f'"{name}"', f'"{value}"')
    return extension(
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
    )
