"""The routes of one port: a virtual host per hostname, and in it the matches in the order in which they are tried."""

from collections.abc import Iterator, Sequence

from stellwerk.control.envoy.document import Document, seconds, typed
from stellwerk.control.envoy.headers import POOL_HEADER
from stellwerk.control.envoy.route_mode.cors import cors_policy
from stellwerk.control.envoy.route_mode.filters import says_served, turned_on
from stellwerk.control.envoy.route_mode.matches import prefix_replaced, replaced, route_match
from stellwerk.control.envoy.route_mode.misdirected import misdirected
from stellwerk.control.envoy.route_mode.redirects import redirects
from stellwerk.control.envoy.routes import retry_policy
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.gateway.backend import ForeignPicker, PoolTarget
from stellwerk.control.gateway.kinds import HeaderFilter, Listener, Rewrite
from stellwerk.control.gateway.plan import Host, PlannedListener
from stellwerk.control.gateway.rule import Backend, Entry, MirrorTo

NOBODY = "nobody"
"""A cluster that does not exist: the share of a backend that cannot be resolved, answered 500."""
_BROKEN: Document = {"direct_response": {"status": 500}}
_NOT_FOUND: Document = {"name": "not found", "match": {"prefix": "/"}, "direct_response": {"status": 404}}
_MILLION = 1_000_000


def route_name(port: int) -> str:
    """Of a port's route configuration."""
    return f"port-{port}"


def route_configuration(port: int, listeners: Sequence[PlannedListener], settings: EnvoySettings) -> Document:
    """The RDS resource of one port. A host that nobody named, and a path without a route, are answered 404."""
    hosts = [
        _guarded(_virtual_host(host, each.checked.listener, settings), each, listeners)
        for each in listeners
        for host in each.hosts
    ]
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=route_name(port),
        virtual_hosts=sorted(hosts, key=lambda host: str(host["name"])),
        ignore_port_in_host_matching=True,
        # The pool's name is for Envoy's and the picker's ears only.
        request_headers_to_remove=[POOL_HEADER],
    )


def _guarded(host: Document, own: PlannedListener, listeners: Sequence[PlannedListener]) -> Document:
    """The virtual host of an HTTPS listener refuses what comes on a connection for another one. Its filters are those
    of a route, so that there has to be one for every path."""
    others = [each.checked.hostname for each in listeners if each is not own]
    refused = misdirected(own.checked.hostname, others) if own.checked.listener.protocol == "HTTPS" else {}
    if not refused:
        return host
    return {**host, "routes": [*host["routes"], _NOT_FOUND], "typed_per_filter_config": refused}


def _virtual_host(host: Host, listener: Listener, settings: EnvoySettings) -> Document:
    routes = [route for entry in host.entries for route in _routes(entry, host.domain, listener, settings)]
    return {"name": host.domain, "domains": [host.domain], "routes": routes}


def _routes(entry: Entry, domain: str, listener: Listener, settings: EnvoySettings) -> Iterator[Document]:
    """One for a match; some redirects take two."""
    rule = entry.rule
    document: Document = {"name": rule.name, "match": route_match(entry.match)}
    if rule.problem is not None:
        # Nothing else of it: Envoy may refuse any part, and with it the routes of everybody.
        yield {**document, **_BROKEN}
        return
    document |= _changes("request", rule.request_headers) | _changes("response", rule.response_headers)
    if rule.redirect is not None:
        yield from redirects(document, rule.redirect, entry.match.path, domain, listener)
    elif not any(backend.weight for backend in rule.backends):
        yield {**document, **_BROKEN}
    else:
        if rule.cors is not None:
            document["typed_per_filter_config"] = cors_policy(rule.cors)
        if any(isinstance(backend.target, PoolTarget) for backend in rule.backends):
            # Without it a body over the connection's buffer limit could not be sent a second time.
            document["request_body_buffer_limit"] = settings.max_body_bytes
        yield {**document, "route": _forward(entry, settings)}


def _forward(entry: Entry, settings: EnvoySettings) -> Document:
    """No limit on the whole answer unless one is set, but on silence."""
    rule = entry.rule
    clusters = [_weighted(each, settings) for each in rule.backends if each.weight]
    is_pool = any(isinstance(backend.target, PoolTarget) for backend in rule.backends)
    policy = (
        retry_policy(settings) if is_pool else {**retry_policy(settings), "retry_on": "connect-failure,refused-stream"}
    )
    if rule.try_seconds:
        policy["per_try_timeout"] = seconds(rule.try_seconds)
    document: Document = {
        "weighted_clusters": {"clusters": clusters},
        "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
        "timeout": seconds(rule.request_seconds or 0.0),
        "idle_timeout": seconds(settings.upstream_idle_seconds),
        "retry_policy": policy,
        **(_rewrite(rule.rewrite, entry) if rule.rewrite is not None else {}),
    }
    if rule.mirrors:
        document["request_mirror_policies"] = [_mirror(each) for each in rule.mirrors]
    if not is_pool:
        document["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    return document


def _weighted(backend: Backend, settings: EnvoySettings) -> Document:
    target = backend.target
    if target is None or (isinstance(target, PoolTarget) and target.is_missing):
        return {"name": NOBODY, "weight": backend.weight}
    document: Document = {"name": target.cluster, "weight": backend.weight}
    if filters := turned_on(target, settings):
        document["typed_per_filter_config"] = filters
    document |= _changes("request", backend.request_headers) | _changes("response", backend.response_headers)
    if isinstance(target, PoolTarget) and isinstance(target.picker, ForeignPicker):
        document.setdefault("response_headers_to_add", []).extend(says_served())
    return document


def _changes(direction: str, filters: Sequence[HeaderFilter]) -> Document:
    """`request_headers_to_add` and `_to_remove` (or of responses). Of several headers of one name in a list the first
    counts, as the Gateway API has it (`HTTPHeader.name`)."""
    add = [
        {
            "header": {"key": each.name, "value": each.value.replace("%", "%%")},
            "append_action": action,
            "keep_empty_value": True,
        }
        for one in filters
        for action, headers in (("OVERWRITE_IF_EXISTS_OR_ADD", one.set), ("APPEND_IF_EXISTS_OR_ADD", one.add))
        for each in {header.name.lower(): header for header in reversed(headers)}.values()
    ]
    remove = [name for one in filters for name in one.remove]
    document: Document = {}
    if add:
        document[f"{direction}_headers_to_add"] = add
    if remove:
        document[f"{direction}_headers_to_remove"] = remove
    return document


def _rewrite(rewrite: Rewrite, entry: Entry) -> Document:
    document: Document = {}
    if rewrite.hostname is not None:
        document["host_rewrite_literal"] = rewrite.hostname
    path = rewrite.path
    if path is not None and path.type == "ReplaceFullPath":
        document |= replaced("^/.*$", path.replace_full_path or "/")
    elif path is not None:
        document |= prefix_replaced(entry.match.path, path.replace_prefix_match or "/")
    return document


def _mirror(mirror: MirrorTo) -> Document:
    numerator = round(_MILLION * min(1.0, mirror.numerator / max(1, mirror.denominator)))
    return {
        "cluster": mirror.target.cluster,
        "runtime_fraction": {"default_value": {"numerator": numerator, "denominator": "MILLION"}},
        "disable_shadow_host_suffix_append": True,
    }
