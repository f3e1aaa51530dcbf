"""Pools as Envoy sees them: one cluster per pool, its endpoints in a file of its own.

The picker's list decides which endpoint serves, and in which order others are tried; the cluster's own policy decides
only while the picker is silent. A pick outside the pool cannot leave it: Envoy takes a member instead.
"""

import hashlib

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import DESTINATION_HEADER
from stellwerk.control.envoy.picker import LB_NAMESPACE, http_options, no_circuit_breakers
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.catalog import Pool

H2C = "kubernetes.io/h2c"


def endpoints_file(pool: Pool) -> str:
    """The file name of a pool's endpoints. A digest, because a pool's name may be longer than a file's."""
    return f"endpoints-{hashlib.sha256(pool.name.encode()).hexdigest()[:16]}.json"


def cluster(pool: Pool, settings: EnvoySettings) -> Document:
    """The cluster named like the pool."""
    if pool.app_protocol == H2C:
        protocol: Document = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}}
    else:
        protocol = {"http_protocol_options": {}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=pool.name,
        type="EDS",
        eds_cluster_config={
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": settings.paths.endpoints(endpoints_file(pool))},
            }
        },
        connect_timeout=seconds(settings.connect_seconds),
        typed_extension_protocol_options=http_options(
            {"explicit_http_config": protocol}, {"idle_timeout": seconds(settings.keep_alive_seconds)}
        ),
        circuit_breakers=no_circuit_breakers(),
        load_balancing_policy={"policies": [{"typed_extension_config": _override_host()}]},
    )


def assignment(pool: Pool) -> Document:
    """The pool's endpoints, each address once, in a stable order."""
    addresses = sorted({(each.host, each.port) for each in pool.endpoints})
    members = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in addresses
    ]
    return typed(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        cluster_name=pool.name,
        endpoints=[{"lb_endpoints": members}] if members else [],
    )


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
