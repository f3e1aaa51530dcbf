"""Where a request goes once the picker has spoken, and where it goes when the picker stays silent.

The picker names the pool in a header, and one route serves all pools: the header is the cluster's name. Without that
header the picker was silent, since it answers by itself whatever it does not forward. Then the model name in the body,
read by Envoy in that case only, chooses among the pools that are FailOpen; everything else gets a typed 503, or 504
when the picker was asked and did not answer in time.
"""

from collections.abc import Iterable, Mapping

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import POOL_HEADER
from stellwerk.control.envoy.picker import FILTER
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.envoy.silence import MODEL, NAMESPACE
from stellwerk.model.catalog import Catalog, FailureMode

ROUTES = "stellwerk"
"""Name of the route configuration."""
NOTHING_SERVED: Mapping[str, Iterable[str]] = {}
_ANY: Document = {"prefix": "/"}


def route_configuration(
    catalog: Catalog, settings: EnvoySettings, served: Mapping[str, Iterable[str]] = NOTHING_SERVED
) -> Document:
    """The whole RDS resource."""
    chosen: Document = {**_ANY, "headers": [{"name": POOL_HEADER, "present_match": True}]}
    routes = [
        {"name": "picked", "match": chosen, "route": _forward({"cluster_header": POOL_HEADER}, settings)},
        {"name": "undecided", "match": {**_ANY, "dynamic_metadata": [_undecided()]}, **_refusal(503)},
        *fallbacks(catalog, settings, served),
        {"name": "late", "match": {**_ANY, "filter_state": [_timed_out()]}, **_refusal(504)},
        {"name": "silent", "match": _ANY, **_refusal(503)},
    ]
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=ROUTES,
        # Without it a body over the connection's buffer limit could not be sent a second time.
        virtual_hosts=[
            {
                "name": "all",
                "domains": ["*"],
                "routes": routes,
                "request_body_buffer_limit": settings.max_body_bytes,
            }
        ],
    )


def fallbacks(
    catalog: Catalog, settings: EnvoySettings, served: Mapping[str, Iterable[str]] = NOTHING_SERVED
) -> list[Document]:
    """Routes for a silent picker: by model name to open pools, then everything without a known name."""
    routes = []
    default = default_open_pool(catalog)
    names = names_of_pools(catalog, served)
    for pool in sorted(names):
        if catalog.pools[pool].failure_mode is FailureMode.OPEN:
            match = {**_ANY, "dynamic_metadata": [_named(names[pool])]}
            routes.append({"name": f"open {pool}", "match": match, "route": _forward({"cluster": pool}, settings)})
    if default is not None:
        closed = sorted(name for pool in names if pool not in _open_pools(catalog) for name in names[pool])
        match = {**_ANY, "dynamic_metadata": [{**_named(closed), "invert": True}]} if closed else _ANY
        routes.append({"name": "open", "match": match, "route": _forward({"cluster": default}, settings)})
    return routes


def default_open_pool(catalog: Catalog) -> str | None:
    """Who serves what names no known model while the picker is silent: the default pool, or else the only open one."""
    open_pools = _open_pools(catalog)
    if catalog.default_pool is not None:
        return catalog.default_pool if catalog.default_pool in open_pools else None
    return open_pools[0] if len(open_pools) == 1 else None


def names_of_pools(catalog: Catalog, served: Mapping[str, Iterable[str]] = NOTHING_SERVED) -> dict[str, list[str]]:
    """The model names by pool, for pools that have some. Of a name in two pools the InferenceModel's counts, then the
    rewrite rule's, then the default pool's servers', as when the picker resolves it."""
    by_rank = sorted(catalog.pools, key=lambda pool: pool != catalog.default_pool)
    owner = {name: pool for pool in reversed(by_rank) for name in served.get(pool, ())}
    owner |= {name: pool for pool in sorted(catalog.pools) for name in catalog.pools[pool].exact_rewrites}
    owner |= {model.name: model.pool for model in catalog.models.values() if model.pool in catalog.pools}
    names: dict[str, list[str]] = {}
    for name in sorted(owner):
        names.setdefault(owner[name], []).append(name)
    return names


def _open_pools(catalog: Catalog) -> list[str]:
    return sorted(pool.name for pool in catalog.pools.values() if pool.failure_mode is FailureMode.OPEN)


def _forward(cluster: Document, settings: EnvoySettings) -> Document:
    """No limit on the whole answer, one on silence. What was not answered with a single byte is tried on the next
    endpoint of the list: a server that dies takes nobody's request with it, and a request that kills servers meets no
    more of them than the list holds (docs/decisions/retries.md)."""
    return {
        **cluster,
        "timeout": "0s",
        "idle_timeout": seconds(settings.upstream_idle_seconds),
        "retry_policy": retry_policy(settings),
    }


def retry_policy(settings: EnvoySettings) -> Document:
    """Of a pool's requests: on the next endpoint of the picker's list, which is not tried twice."""
    return {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": settings.fallback_count,
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": 5,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
    }


def _refusal(status: int) -> Document:
    """`replies.py` turns it into a typed body."""
    return {"direct_response": {"status": status}}


def _named(names: Iterable[str]) -> Document:
    values = [{"string_match": {"exact": name}} for name in names]
    value = values[0] if len(values) == 1 else {"or_match": {"value_matchers": values}}
    return {"filter": NAMESPACE, "path": [{"key": MODEL}], "value": value}


def _undecided() -> Document:
    """Before the picker was asked, Envoy chooses a route for the first time; this one ends that search early."""
    present = {"present_match": True}
    return {"filter": NAMESPACE, "path": [{"key": MODEL}], "value": present, "invert": True}


def _timed_out() -> Document:
    """ext_proc's record of its calls: `rh:<us>:<status>` for headers, `rb:<count>:<us>:<status>` for bodies; gRPC
    status 4 is DEADLINE_EXCEEDED."""
    regex = "(.*,)?(rh:[0-9]+|rb:[0-9]+:[0-9]+):4(,.*)?"
    return {"key": FILTER, "string_match": {"safe_regex": {"regex": regex}}}
