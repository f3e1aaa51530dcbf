"""What Envoy would refuse: it takes the routes of a port whole or not at all, so one of them must not spoil the others.

The API server's own checks leave room for regular expressions that RE2 does not know, for control characters, and for
headers by which a message is framed: who may write a route must not decide where another client's request begins.
"""

import re
from collections.abc import Iterable, Iterator

from stellwerk.control.finding import shown
from stellwerk.control.gateway.duration import seconds
from stellwerk.control.gateway.kinds import Cors, Filter, NameMatch, PathModifier, RouteMatch, RouteRule
from stellwerk.control.gateway.regex import regex_problem

FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that belong to a connection, not to a message (RFC 9110, 7.6.1), and those that say where a message ends."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"\*|https?://(?:(?:\*\.)?(?:[a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(?::[0-9]{1,5})?")
"""As in the definitions of the Gateway API."""
_TEXT = re.compile(r"[\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]*")
_PATH = re.compile(r"/[^?#\s\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def match_problem(match: RouteMatch) -> str | None:
    """Why Envoy cannot be told `match`, the first of the reasons; None: it can."""
    return next(_match(match), None)


def problem_of(rule: RouteRule) -> str | None:
    """Why Envoy would not have `rule`, the first of the reasons; None: it will."""
    return next(_problems(rule), None)


def _problems(rule: RouteRule) -> Iterator[str]:
    for match in rule.matches:
        yield from _match(match)
    for each in (*rule.filters, *(one for backend in rule.backend_refs for one in backend.filters)):
        yield from _filter(each)
    for text in (rule.timeouts.request, rule.timeouts.backend_request):
        if text is not None and seconds(text) is None:
            yield f'timeout "{shown(text)}" is no duration: write it like 500ms, 10s or 1h30m'


def _match(match: RouteMatch) -> Iterator[str]:
    path = match.path
    if path.type == "RegularExpression":
        yield from _regex("path", path.value)
    elif _PATH.fullmatch(path.value) is None:
        yield f'path "{shown(path.value)}" is not a path'
    yield from _names("header", match.headers)
    yield from _names("query parameter", match.query_params)


def _names(what: str, matches: Iterable[NameMatch]) -> Iterator[str]:
    for each in matches:
        if _TOKEN.fullmatch(each.name) is None:
            yield f'"{shown(each.name)}" is no name of a {what}'
        if each.type == "RegularExpression":
            yield from _regex(f"{what} {shown(each.name)}", each.value)
        elif _TEXT.fullmatch(each.value) is None:
            yield f"the value of {what} {shown(each.name)} has control characters"


def _regex(what: str, pattern: str) -> Iterator[str]:
    problem = regex_problem(pattern)
    if problem is not None:
        yield f'the regular expression "{shown(pattern)}" of {what} {problem}'


def _filter(each: Filter) -> Iterator[str]:
    for change in (each.request_header_modifier, each.response_header_modifier):
        if change is None:
            continue
        for header in (*change.set, *change.add):
            if _TEXT.fullmatch(header.value) is None:
                yield f"the value for header {shown(header.name)} has control characters"
        for name in (*(header.name for header in (*change.set, *change.add)), *change.remove):
            yield from _changed(name)
    if each.cors is not None:
        yield from _cors(each.cors)
    for rewrite in (each.url_rewrite, each.request_redirect):
        if rewrite is not None and rewrite.path is not None:
            yield from _modifier(rewrite.path)


def _changed(name: str) -> Iterator[str]:
    """A header that is set, added to or removed."""
    if name.startswith(":") or name.lower() == "host":
        yield f'header "{shown(name)}" cannot be changed: use URLRewrite for host and path'
    elif _TOKEN.fullmatch(name) is None:
        yield f'"{shown(name)}" is no name of a header'
    elif name.lower() in FRAMING:
        yield f'header "{name}" cannot be changed: it is the connection\'s, and Envoy sets it; leave it out'


def _cors(cors: Cors) -> Iterator[str]:
    for origin in cors.allow_origins:
        if _ORIGIN.fullmatch(origin) is None:
            yield f'"{shown(origin)}" is no origin: write it like https://example.com, https://*.example.com:8443 or *'
    for name in (*cors.allow_methods, *cors.allow_headers, *cors.expose_headers):
        if _TOKEN.fullmatch(name) is None:
            yield f'"{shown(name)}" is no name of a method or header'


def _modifier(path: PathModifier) -> Iterator[str]:
    for text in (path.replace_full_path, path.replace_prefix_match):
        if text and _PATH.fullmatch(text) is None:
            yield f'"{shown(text)}" is not a path'
