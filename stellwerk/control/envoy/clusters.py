"""Pools as Envoy sees them: one cluster per pool, with its endpoints in it.

The picker's list decides which endpoint serves, and in which order others are tried; the cluster's own policy decides
only while the picker is silent. A pick outside the pool cannot leave it: Envoy takes a member instead.

Endpoints do not come by files of their own (EDS): Envoy takes one inotify instance per watched file, the kernel grants
a user 128 of them, and an Envoy that gets none aborts. A changed pool is a changed cluster, which Envoy swaps without
touching what runs.
"""

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import DESTINATION_HEADER
from stellwerk.control.envoy.picker import LB_NAMESPACE, http_options, no_circuit_breakers
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.catalog import Pool

H2C = "kubernetes.io/h2c"


def cluster(pool: Pool, settings: EnvoySettings) -> Document:
    """The cluster named like the pool."""
    if pool.app_protocol == H2C:
        protocol: Document = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}}
    else:
        protocol = {"http_protocol_options": {}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=pool.name,
        type="STATIC",
        load_assignment={"cluster_name": pool.name, "endpoints": [{"lb_endpoints": members(pool)}]},
        connect_timeout=seconds(settings.connect_seconds),
        typed_extension_protocol_options=http_options(
            {"explicit_http_config": protocol}, {"idle_timeout": seconds(settings.keep_alive_seconds)}
        ),
        circuit_breakers=no_circuit_breakers(),
        load_balancing_policy={"policies": [{"typed_extension_config": _override_host()}]},
    )


def members(pool: Pool) -> list[Document]:
    """The pool's endpoints, each address once, in a stable order."""
    addresses = sorted({(each.host, each.port) for each in pool.endpoints})
    return [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in addresses
    ]


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
