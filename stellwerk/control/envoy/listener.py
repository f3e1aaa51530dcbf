"""The listener: how clients connect, and the chain of filters that each request passes."""

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import early_strip, identity_strip
from stellwerk.control.envoy.picker import access_log, ext_proc_filter
from stellwerk.control.envoy.replies import TUNNEL, local_replies
from stellwerk.control.envoy.routes import ROUTES
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.envoy.silence import silence_filter
from stellwerk.control.envoy.usage import usage_filter

LISTENER = "stellwerk"
STAT_PREFIX = "stellwerk"

_BUFFER_BYTES = 1024 * 1024


def listener(settings: EnvoySettings) -> Document:
    """The LDS resource. It depends on settings only, so no change of objects ever drains a connection."""
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        **_connection_manager(settings),
    )
    return typed(
        "envoy.config.listener.v3.Listener",
        name=LISTENER,
        address={"socket_address": {"address": settings.listen_host, "port_value": settings.listen_port}},
        per_connection_buffer_limit_bytes=max(_BUFFER_BYTES, 2 * settings.max_answer_bytes),
        filter_chains=[{"filters": [manager]}],
    )


def http_filters(settings: EnvoySettings) -> list[Document]:
    """In the order of requests; answers pass them in reverse.

    `buffer` stands before ext_proc: the picker never waits for a slow upload, and the body limit is Envoy's.
    """
    filters = [
        doorman(),
        extension(
            "envoy.filters.http.buffer",
            "envoy.extensions.filters.http.buffer.v3.Buffer",
            max_request_bytes=settings.max_body_bytes,
        ),
        usage_filter(),
        ext_proc_filter(settings),
        silence_filter(),
        extension(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
        ),
    ]
    return [identity_strip(settings.trusted_sources), *filters] if settings.trusted_sources else filters


def doorman() -> Document:
    """Refuses CONNECT at the headers; the buffer filter would wait for the end of a tunnel.

    The policy's name reaches `replies.py` in the response code details.
    """
    connect = {"header": {"name": ":method", "string_match": {"exact": "CONNECT"}}}
    policies = {TUNNEL: {"permissions": [connect], "principals": [{"any": True}]}}
    return extension(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        rules={"action": "DENY", "policies": policies},
    )


def _connection_manager(settings: EnvoySettings) -> Document:
    return {
        "stat_prefix": STAT_PREFIX,
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {"path": settings.paths.routes},
            },
        },
        "http_filters": http_filters(settings),
        "access_log": [access_log()],
        "local_reply_config": local_replies(settings),
        **_edge_hardening(settings),
        **_request_ids(),
        **_patience(settings),
    }


def _edge_hardening(settings: EnvoySettings) -> Document:
    """Envoy's own list for proxies at the edge; and no client counts as internal, so nobody's x-envoy-* is believed."""
    return {
        "early_header_mutation_extensions": [early_strip(settings.trusted_sources)],
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "0.0.0.0", "prefix_len": 32}]},
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
            "ignore_http_11_upgrade": [{"prefix": "h2c"}],
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 256,
            "initial_stream_window_size": 256 * 1024,
            "initial_connection_window_size": 1024 * 1024,
        },
    }


def _request_ids() -> Document:
    """A client's own id is kept, so that it finds its request in our logs; the answer always names it."""
    return {
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": typed("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
        },
    }


def _patience(settings: EnvoySettings) -> Document:
    idle = seconds(settings.client_idle_seconds)
    return {
        "common_http_protocol_options": {
            "idle_timeout": idle,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "stream_idle_timeout": idle,
        "request_timeout": idle,
        "request_headers_timeout": seconds(settings.request_headers_seconds),
        "drain_timeout": "5s",
    }
