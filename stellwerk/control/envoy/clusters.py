"""Pools as Envoy sees them: one cluster per pool.

The picker's list decides which endpoint serves, and in which order others are tried; the cluster's own policy decides
only while the picker is silent. A pick outside the pool cannot leave it: Envoy takes a member instead.

Endpoints stand in the cluster where they seldom change (`listed`), or are told by the picker as they come and go
(`discovered`); never in files of their own: Envoy takes one inotify instance per watched file, the kernel grants a user
128 of them, and an Envoy that gets none aborts.
"""

from collections.abc import Iterable

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import DESTINATION_HEADER
from stellwerk.control.envoy.picker import LB_NAMESPACE, asks_picker, http_options, no_circuit_breakers
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.catalog import Pool
from stellwerk.model.members import Address

H2C = "kubernetes.io/h2c"


def cluster(pool: Pool, settings: EnvoySettings, members: Document) -> Document:
    """The cluster named like the pool. `members`: by `listed` or `discovered`."""
    if pool.app_protocol == H2C:
        protocol: Document = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}}
    else:
        protocol = {"http_protocol_options": {}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        **members,
        connect_timeout=seconds(settings.connect_seconds),
        typed_extension_protocol_options=http_options(
            {"explicit_http_config": protocol}, {"idle_timeout": seconds(settings.keep_alive_seconds)}
        ),
        circuit_breakers=no_circuit_breakers(),
        load_balancing_policy={"policies": [{"typed_extension_config": _override_host()}]},
    )


def addresses(pool: Pool) -> tuple[Address, ...]:
    """Of the pool's endpoints, each once, in a stable order."""
    return tuple(sorted({(each.host, each.port) for each in pool.endpoints}))


def listed(name: str, members: Iterable[Address]) -> Document:
    """A cluster's name and the addresses that are in it."""
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in members
    ]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def discovered(name: str) -> Document:
    """A cluster's name, and that the picker tells who is in it (EDS): a change touches nothing but those who come and
    go."""
    return {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": asks_picker()}}


def _override_host() -> Document:
    """The list in dynamic metadata, which only the picker writes; a header could be the client's."""
    fallback = extension(
        "envoy.load_balancing_policies.least_request",
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    )
    return extension(
        "envoy.load_balancing_policies.override_host",
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
        override_host_sources=[{"metadata": {"key": LB_NAMESPACE, "path": [{"key": DESTINATION_HEADER}]}}],
        fallback_policy={"policies": [{"typed_extension_config": fallback}]},
    )
