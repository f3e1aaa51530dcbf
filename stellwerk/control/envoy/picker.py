"""The picker as Envoy sees it: the ext_proc filter, the cluster behind it, and the access log that reports back."""

from stellwerk.control.envoy import usage
from stellwerk.control.envoy.document import Document, extension, seconds
from stellwerk.control.envoy.headers import IDENTITY, skipped_when
from stellwerk.control.envoy.settings import EnvoySettings

CLUSTER = "picker"
"""Pools are named `namespace/name`, so none collides with it."""
LB_NAMESPACE = "envoy.lb"
OWN_NAMESPACE = "stellwerk"
FILTER = "envoy.filters.http.ext_proc"

_READ = [
    *({"exact": name} for name in (":method", ":path", "upgrade", "content-type", "content-length", "x-request-id")),
    *({"prefix": prefix} for prefix in IDENTITY),
    *({"exact": name} for name in (":status", "content-encoding", "trailer")),
]
"""Headers that the picker reads: of requests, and of answers. Each other one would only cost."""
_MAX_STREAM_SECONDS = 6 * 3600.0
_LOG_BYTES = 16 * 1024
_LOG_SECONDS = 0.1


def ext_proc_filter(settings: EnvoySettings) -> Document:
    """One filter decides everything.

    It always continues when the picker is silent: which pools are open and which are closed is a question of routes,
    because the pool is known only from the body (`routes.fallbacks`). Answers pass by the picker, unless it asks for
    them because a model name may have to be restored.
    """
    process = extension(
        FILTER,
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": CLUSTER}},
        failure_mode_allow=True,
        processing_mode={
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "request_trailer_mode": "SKIP",
            "response_header_mode": "SKIP",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SKIP",
        },
        allow_mode_override=True,
        forward_rules={"allowed_headers": {"patterns": _READ}},
        message_timeout=seconds(settings.message_seconds),
        max_message_timeout=seconds(settings.max_override_seconds),
        metadata_options={"receiving_namespaces": {"untyped": [LB_NAMESPACE, OWN_NAMESPACE]}},
        mutation_rules={"disallow_system": True},
    )
    local = extension("local", "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput")
    return skipped_when(FILTER, process, {"input": local, "value_match": {"exact": "true"}})


def picker_cluster(settings: EnvoySettings) -> Document:
    """HTTP/2 over a Unix socket; a picker that is gone, frozen or not serving is known within a second or two."""
    address = {"pipe": {"path": settings.paths.picker_socket}}
    http2 = {
        "max_concurrent_streams": 2147483647,
        "initial_stream_window_size": 1024 * 1024,
        "initial_connection_window_size": 64 * 1024 * 1024,
        "connection_keepalive": {"interval": "5s", "timeout": "2s"},
    }
    return {
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "typed_extension_protocol_options": http_options(
            {"explicit_http_config": {"http2_protocol_options": http2}},
            {"max_stream_duration": seconds(_MAX_STREAM_SECONDS)},
        ),
        "circuit_breakers": no_circuit_breakers(),
        "common_lb_config": picker_balancing(),
        "health_checks": [
            {
                "timeout": seconds(settings.message_seconds),
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_interval": "0.25s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": "envoy.service.ext_proc.v3.ExternalProcessor"},
            }
        ],
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def access_log() -> Document:
    """How each exchange ended, told to the picker. Batched: nothing waits for it, it only teaches."""
    tags = [
        {"tag": "ticket", "metadata": _metadata(OWN_NAMESPACE, "ticket")},
        {"tag": "content_type", "value": "%RESP(CONTENT-TYPE)%"},
        {"tag": "ttft_us", "value": "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:us)%"},
        *({"tag": key, "metadata": _metadata(usage.NAMESPACE, key)} for key in _USAGE_KEYS),
    ]
    return extension(
        "envoy.access_loggers.http_grpc",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        common_config={
            "log_name": "stellwerk",
            "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}},
            "transport_api_version": "V3",
            "buffer_size_bytes": _LOG_BYTES,
            "buffer_flush_interval": seconds(_LOG_SECONDS),
            "custom_tags": tags,
        },
    )


_USAGE_KEYS = (usage.PROMPT, usage.CACHED, usage.OUTPUT)


def _metadata(namespace: str, key: str) -> Document:
    return {"kind": {"request": {}}, "metadata_key": {"key": namespace, "path": [{"key": key}]}}


def asks_picker() -> Document:
    """A source of configuration: the picker, over the socket that it shares with Envoy. While it is away Envoy keeps
    what it was told last."""
    backoff = {"base_interval": "0.1s", "max_interval": "1s"}
    service = {"envoy_grpc": {"cluster_name": CLUSTER, "retry_policy": {"retry_back_off": backoff}}}
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "5s",
        "api_config_source": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]},
    }


def picker_balancing() -> Document:
    """`common_lb_config` where only whoever answers may be asked. News of health takes effect at once: Envoy's default
    keeps what comes within a second of a change, so that a picker that has just come would be missing so long."""
    return {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}


def http_options(protocol: Document, common: Document) -> Document:
    """A cluster's HTTP options: which protocol, and what holds for all of them."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: {"@type": f"type.googleapis.com/{name}", **protocol, "common_http_protocol_options": common}}


def no_circuit_breakers() -> Document:
    """Envoy's defaults (1024 requests) would answer 503 by themselves; admission is the picker's work."""
    most = 2147483647
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
    return {"thresholds": [{"priority": "DEFAULT", **limits}]}
