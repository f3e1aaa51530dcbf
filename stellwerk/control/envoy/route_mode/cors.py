"""Requests of web pages from other places (the filter `CORS` of a rule): which of them a browser may make.

Envoy answers the browser's question beforehand ("preflight") by itself: no picker and no model server is asked.
"""

import re

from stellwerk.control.envoy.document import Document, extension, typed
from stellwerk.control.gateway.kinds import Cors

_NAME = "envoy.filters.http.cors"
_ANYTHING = "*"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def cors_filter() -> Document:
    """Does nothing where a route does not ask for it."""
    return extension(_NAME, "envoy.extensions.filters.http.cors.v3.Cors")


def cors_policy(cors: Cors) -> Document:
    """`typed_per_filter_config` of a route. For `*` Envoy says what the request asked for, which is right with and
    without credentials; but what is exposed nobody asks for, and with credentials `*` means nothing there."""
    exposed = [each for each in cors.expose_headers if each != _ANYTHING or not cors.allow_credentials]
    policy = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[_origin(each) for each in cors.allow_origins],
        allow_methods=", ".join(cors.allow_methods),
        allow_headers=", ".join(cors.allow_headers),
        expose_headers=", ".join(exposed),
        max_age=str(cors.max_age),
        allow_credentials=bool(cors.allow_credentials),
        forward_not_matching_preflights=False,
    )
    return {_NAME: policy}


def _origin(pattern: str) -> Document:
    """A star stands for any number of labels; a port that is not said is the scheme's, which browsers do not say."""
    if pattern == _ANYTHING:
        return {"safe_regex": {"regex": ".*"}}
    scheme, _, rest = pattern.lower().partition("://")
    origin = f"{scheme}://{rest.removesuffix(_DEFAULT_PORTS[scheme])}"
    if _ANYTHING not in origin:
        return {"exact": origin}
    before, _, after = origin.partition(_ANYTHING)
    return {"safe_regex": {"regex": f"{re.escape(before)}[^/:]+{re.escape(after)}"}}
