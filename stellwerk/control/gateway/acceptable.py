"""What Envoy would refuse: it takes the routes of a port whole or not at all, so one of them must not spoil the others.

The API server's own checks leave room for regular expressions that RE2 does not know, and for headers that a proxy must
not change.
"""

import re
from collections.abc import Iterable, Iterator
from math import prod

from stellwerk.control.finding import shown
from stellwerk.control.gateway.kinds import Filter, NameMatch, PathModifier, RouteMatch, RouteRule

MAX_REGEX = 1024
"""Characters."""
_MAX_REPEAT = 1000
_UNKNOWN_TO_RE2 = re.compile(
    r"\(\?(?:[=!>(]|<[=!]|P=|P>)"  # looking around, atomic groups, conditions, references by name
    r"|\\(?:[1-9]|k[<{']|g[<{'0-9]|Z|G|K|R|X|u|U|N\{)"  # references by number, other dialects' escapes
    r"|\(\?[a-zA-Z]*[aLux][a-zA-Z]*[-:)]"  # flags that it does not have
    r"|[*+?}]\+"  # possessive repetition
)
_REPEAT = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"/[^?#\s]*")
_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def problem_of(rule: RouteRule) -> str | None:
    """Why Envoy would not have `rule`, the first of the reasons; None: it will."""
    return next(_problems(rule), None)


def _problems(rule: RouteRule) -> Iterator[str]:
    for match in rule.matches:
        yield from _match(match)
    for each in (*rule.filters, *(one for backend in rule.backend_refs for one in backend.filters)):
        yield from _filter(each)


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
        if each.type == "RegularExpression":
            yield from _regex(f"{what} {shown(each.name)}", each.value)
        elif _TEXT.fullmatch(each.value) is None:
            yield f"the value of {what} {shown(each.name)} has control characters"
        if what == "header" and _TOKEN.fullmatch(each.name) is None:
            yield f'"{shown(each.name)}" is no name of a header'


def _regex(what: str, pattern: str) -> Iterator[str]:
    """RE2 has no backtracking, hence none of what needs it; what is refused here may be right, but not the reverse."""
    problem = None
    if not pattern or len(pattern) > MAX_REGEX:
        problem = f"has {len(pattern)} characters, not 1 to {MAX_REGEX}"
    elif _UNKNOWN_TO_RE2.search(pattern.replace(r"\\", "")):
        problem = "uses what RE2 does not know"
    elif _repeats(pattern) > _MAX_REPEAT:
        problem = f"repeats more than {_MAX_REPEAT} times, all repetitions multiplied"
    else:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            problem = f"is no regular expression: {error}"
    if problem is not None:
        yield f'the regular expression "{shown(pattern)}" of {what} {problem}'


def _repeats(pattern: str) -> int:
    """All counted repetitions multiplied, as if each were within the others: RE2 unfolds them."""
    return prod(
        max([1, *(int(text[:6]) for text in found if text)]) for found in _REPEAT.findall(pattern) if any(found)
    )


def _filter(each: Filter) -> Iterator[str]:
    for change in (each.request_header_modifier, each.response_header_modifier):
        if change is None:
            continue
        for header in (*change.set, *change.add):
            if _TEXT.fullmatch(header.value) is None:
                yield f"the value for header {shown(header.name)} has control characters"
        for name in (*(header.name for header in (*change.set, *change.add)), *change.remove):
            if _TOKEN.fullmatch(name) is None or name.lower() == "host":
                yield f'header "{shown(name)}" cannot be changed (for the host, use URLRewrite)'
    for rewrite in (each.url_rewrite, each.request_redirect):
        if rewrite is not None and rewrite.path is not None:
            yield from _modifier(rewrite.path)


def _modifier(path: PathModifier) -> Iterator[str]:
    for text in (path.replace_full_path, path.replace_prefix_match):
        if text and _PATH.fullmatch(text) is None:
            yield f'"{shown(text)}" is not a path'
