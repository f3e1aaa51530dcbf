"""Matches of an HTTPRoute as Envoy writes them."""

import re
from collections.abc import Iterable

from stellwerk.control.envoy.document import Document
from stellwerk.control.gateway.kinds import NameMatch, PathMatch, RouteMatch


def route_match(match: RouteMatch) -> Document:
    """The `RouteMatch`. Of several conditions on one name the first counts."""
    headers = [{"name": each.name.lower(), "string_match": _text(each)} for each in _first(match.headers)]
    if match.method is not None:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    document = _path(match.path)
    if headers:
        document["headers"] = headers
    if match.query_params:
        parameters = {each.name: each for each in reversed(match.query_params)}
        document["query_parameters"] = [
            {"name": name, "string_match": _text(each)} for name, each in sorted(parameters.items())
        ]
    return document


def _path(path: PathMatch) -> Document:
    if path.type == "Exact":
        return {"path": path.value}
    if path.type == "RegularExpression":
        return {"safe_regex": {"regex": path.value}}
    prefix = path.value.rstrip("/")
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def _text(match: NameMatch) -> Document:
    if match.type == "RegularExpression":
        return {"safe_regex": {"regex": match.value}}
    return {"exact": match.value}


def _first(matches: Iterable[NameMatch]) -> list[NameMatch]:
    found = {each.name.lower(): each for each in reversed(tuple(matches))}
    return [found[name] for name in sorted(found)]


def prefix_replaced(path: PathMatch, replacement: str) -> Document:
    """`prefix_rewrite` or `regex_rewrite`: the matched prefix of whole path elements becomes `replacement`, with
    exactly one slash before what follows."""
    prefix, new = path.value.rstrip("/"), replacement.rstrip("/")
    if path.type == "PathPrefix" and prefix and new:
        return {"prefix_rewrite": new}
    pattern = f"^{re.escape(prefix) if path.type == 'PathPrefix' else ''}/*"
    return replaced(pattern, f"{new}/")


def replaced(pattern: str, text: str) -> Document:
    """`regex_rewrite` with a literal text."""
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": text.replace("\\", "\\\\")}}
