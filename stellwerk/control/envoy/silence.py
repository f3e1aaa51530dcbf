"""While the picker is silent, Envoy itself finds the model's name in the body, so that the right open pool serves it.

A Lua filter, because it can be bounded: Envoy's own `json_to_metadata` builds the whole document as a tree, which took
7 s and 1 GB for a 16 MiB list of token ids. This one copies the body once and looks at brackets and quotes only, at
most a fixed number of them. It is left out of every request for which the picker did its work.
"""

from stellwerk.control.envoy.document import Document, extension
from stellwerk.control.envoy.headers import POOL_HEADER, skipped_when

NAMESPACE = "stellwerk.silent"
"""Dynamic metadata that exists only while the picker is silent."""
MODEL = "model"
"""Its key: the top-level model name of a JSON body or of a form; empty where none was found."""

_SCRIPT = r"""
local STEPS = 500000

local function after_string(text, opening)
  local stop = opening
  while true do
    stop = text:find('"', stop + 1, true)
    if not stop then return nil end
    local before = stop - 1
    while text:byte(before) == 92 do before = before - 1 end
    if (stop - before) % 2 == 1 then return stop end
  end
end

local function model_of_json(text, position)
  local depth, model = 1, ""
  for _ = 1, STEPS do
    local found = text:find('[%[%]{}"]', position + 1)
    if not found then return model end
    local char = text:byte(found)
    if char == 34 then
      local stop = after_string(text, found)
      if not stop then return model end
      position = stop
      if depth == 1 and stop == found + 6 and text:sub(found, stop) == '"model"' then
        local _, last, value = text:find('^%s*:%s*"([^"\\]*)"', stop + 1)
        if last then model, position = value, last end
      end
    else
      depth = depth + ((char == 91 or char == 123) and 1 or -1)
      if depth == 0 then return model end
      position = found
    end
  end
  return ""
end

local function model_of(text)
  local _, brace = text:find("^%s*{")
  if brace then return model_of_json(text, brace) end
  local _, name = text:find('name="model"', 1, true)
  return name and text:match("^[^\r\n]*\r\n\r\n([^\r\n]*)\r\n", name + 1) or ""
end

function envoy_on_request(handle)
  local body = handle:body()
  local model = body and model_of(body:getBytes(0, body:length())) or ""
  handle:streamInfo():dynamicMetadata():set("%s", "%s", #model <= 1024 and model or "")
  handle:clearRouteCache()
end
"""


def silence_filter() -> Document:
    """Runs only for requests without the pool header, which the picker sets on everything that it forwards."""
    script = _SCRIPT.replace('"%s", "%s"', f'"{NAMESPACE}", "{MODEL}"')
    read = extension(
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
    )
    pool = extension("pool", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=POOL_HEADER)
    anything = {"safe_regex": {"google_re2": {}, "regex": ".+"}}
    return skipped_when("stellwerk.silence", read, {"input": pool, "value_match": anything})
