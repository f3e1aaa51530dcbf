"""Redirects. Envoy keeps the port that a client named in Host; the Gateway API derives the port of the new place."""

from stellwerk.control.envoy.document import Document
from stellwerk.control.envoy.route_mode.matches import prefix_replaced
from stellwerk.control.gateway.kinds import Listener, PathMatch, Redirect

_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_PORTS = {"http": 80, "https": 443}
_HOST_HAS_A_PORT: Document = {"name": ":authority", "string_match": {"safe_regex": {"regex": ".*:[0-9]+"}}}


def redirects(
    route: Document, redirect: Redirect, path: PathMatch, domain: str, listener: Listener
) -> tuple[Document, ...]:
    """What becomes of `route`, which has a match and no action yet. `path` is what it matches, `domain` the name or
    pattern of its virtual host.

    The port is the one asked for, the new scheme's, or the listener's, and is not said where it is the scheme's own
    (Gateway API, `HTTPRequestRedirectFilter.port`). Envoy drops the port of Host only for another port or host. So the
    host is said where it is known; else requests that name a port are told the scheme's.
    """
    scheme = redirect.scheme or listener.protocol.lower()
    port = redirect.port or _PORTS.get(redirect.scheme or "", listener.port)
    action = _action(redirect, path)
    said = {**route, "redirect": {**action, "port_redirect": port}}
    if port != _PORTS.get(scheme):
        return (said,)
    if redirect.hostname is None and not domain.startswith("*"):
        action["host_redirect"] = domain
    silent = {**route, "redirect": action}
    if "host_redirect" in action:
        return (silent,)
    match = route["match"]
    return ({**said, "match": {**match, "headers": [*match.get("headers", ()), _HOST_HAS_A_PORT]}}, silent)


def _action(redirect: Redirect, path: PathMatch) -> Document:
    document: Document = {"response_code": _CODES.get(redirect.status_code, "FOUND")}
    if redirect.scheme is not None:
        document["scheme_redirect"] = redirect.scheme
    if redirect.hostname is not None:
        document["host_redirect"] = redirect.hostname
    new = redirect.path
    if new is not None and new.type == "ReplaceFullPath":
        document["path_redirect"] = new.replace_full_path or "/"
    elif new is not None:
        document |= prefix_replaced(path, new.replace_prefix_match or "/")
    return document
