"""Clusters of a Gateway, and who is in them: its pools, its Services, and the pickers that pools name.

Pods come and go all the time, so the gateway's own picker tells Envoy of them: a cluster that is replaced instead would
lose its idle connections, and a picker's its calls, each with a request that waits for it.
"""

from stellwerk.control.envoy.clusters import addresses, discovered
from stellwerk.control.envoy.clusters import cluster as pool_cluster
from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.picker import http_options, no_circuit_breakers, picker_balancing
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.gateway.backend import ForeignPicker, Target
from stellwerk.control.gateway.plan import GatewayPlan
from stellwerk.model.catalog import Catalog, Pool
from stellwerk.model.members import Members

_KEEP_ALIVE = {"keepalive_time": 5, "keepalive_interval": 1, "keepalive_probes": 3}
_ANSWERS = {
    "timeout": "2s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "unhealthy_interval": "0.5s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {
        "method": "POST",
        "path": "/grpc.health.v1.Health/Check",
        "codec_client_type": "HTTP2",
        "expected_statuses": [{"start": 100, "end": 600}],
        "request_headers_to_add": [
            {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for name, value in (("content-type", "application/grpc"), ("te", "trailers"))
        ],
    },
}
"""Whether a picker answers at all. Its health is told on another port, which nothing names, and the kernel takes a
connection even where the process is frozen; but every gRPC server answers a call, if only that there is no such method.
"""
_PINGS = {"interval": "25s", "timeout": "5s"}
"""gRPC servers take a third PING with nothing sent since the first for abuse and close the connection, so three of them
must be farther apart than a picker keeps requests waiting (a minute); on an idle connection that costs nothing."""
_MAX_STREAM_SECONDS = 6 * 3600.0


def gateway_clusters(planned: GatewayPlan | None, catalog: Catalog, settings: EnvoySettings) -> list[Document]:
    """All clusters of a plan, in a fixed order."""
    if planned is None:
        return []
    pools = [catalog.pools.get(name, Pool(name)) for name in sorted(planned.pools)]
    services = [each for each in planned.targets if isinstance(each, Target)]
    return [
        *(pool_cluster(each, settings, discovered(each.name)) for each in pools),
        *(_service_cluster(each, settings) for each in services),
        *(_picker_cluster(each, settings) for each in planned.pickers),
    ]


def gateway_members(planned: GatewayPlan | None, catalog: Catalog) -> dict[str, Members]:
    """Who is in each cluster of a plan, but for the pickers of others (`picker_members`). A pool that the catalog does
    not know yet has no endpoints."""
    if planned is None:
        return {}
    return {
        **{name: Members(addresses(catalog.pools.get(name, Pool(name)))) for name in planned.pools},
        **{each.cluster: each.members for each in planned.targets if isinstance(each, Target)},
    }


def picker_members(planned: GatewayPlan | None) -> dict[str, Members]:
    """Who answers for each picker of others."""
    return {each.cluster: each.members for each in planned.pickers} if planned is not None else {}


def _service_cluster(target: Target, settings: EnvoySettings) -> Document:
    protocol: Document = {"http2_protocol_options": {}} if target.is_http2 else {"http_protocol_options": {}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        **discovered(target.cluster),
        connect_timeout=seconds(settings.connect_seconds),
        lb_policy="LEAST_REQUEST",
        typed_extension_protocol_options=http_options(
            {"explicit_http_config": protocol}, {"idle_timeout": seconds(settings.keep_alive_seconds)}
        ),
        circuit_breakers=no_circuit_breakers(),
    )


def _picker_cluster(picker: ForeignPicker, settings: EnvoySettings) -> Document:
    """Whoever the Service leads to is trusted: pickers make their own certificates, and nothing names one to check.

    That it answers is checked beforehand: while a body streams there, Envoy knows no time limit, and can no more go on
    without a picker. Those that wait already, when one freezes, are let go by the PINGs.
    """
    http2 = {"max_concurrent_streams": 2147483647, "connection_keepalive": _PINGS}
    document = typed(
        "envoy.config.cluster.v3.Cluster",
        **discovered(picker.cluster),
        connect_timeout=seconds(settings.connect_seconds),
        typed_extension_protocol_options=http_options(
            {"explicit_http_config": {"http2_protocol_options": http2}},
            {"max_stream_duration": seconds(_MAX_STREAM_SECONDS)},
        ),
        circuit_breakers=no_circuit_breakers(),
        common_lb_config=picker_balancing(),
        health_checks=[_ANSWERS],
        # Whoever left the Service gets no more calls, even while it still answers; `farewell` has the exception.
        ignore_health_on_host_removal=True,
        upstream_connection_options={"tcp_keepalive": _KEEP_ALIVE},
    )
    if picker.is_secure:
        document["transport_socket"] = extension(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"alpn_protocols": ["h2"]},
        )
    return document
