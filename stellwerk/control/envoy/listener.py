"""The listener: how clients connect, and the chain of filters that each request passes."""

from collections.abc import Mapping

from msgspec import Struct

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import early_strip, identity_strip
from stellwerk.control.envoy.picker import access_log, ext_proc_filter
from stellwerk.control.envoy.replies import TUNNEL, local_replies, table
from stellwerk.control.envoy.routes import ROUTES
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.envoy.silence import silence_filter
from stellwerk.control.envoy.usage import usage_filter

LISTENER = "stellwerk"
STAT_PREFIX = "stellwerk"
DOORMAN = "envoy.filters.http.rbac"
"""Name of a filter."""
NO_MORE: Mapping[str, Document] = {}

_BUFFER_BYTES = 1024 * 1024


class Routes(Struct, frozen=True):
    """Where a listener's routes come from: the name of the resource, and the file that holds it."""

    name: str
    path: str


def listener(settings: EnvoySettings) -> Document:
    """The LDS resource. It depends on settings only, so no change of objects ever drains a connection."""
    manager = connection_manager(
        settings,
        http_filters(settings),
        Routes(ROUTES, settings.paths.routes),
        local_replies(table(settings)),
        early_strip(settings.trusted_sources),
    )
    return listening(LISTENER, settings.listen_port, [{"filters": [manager]}], settings)


def listening(name: str, port: int, filter_chains: list[Document], settings: EnvoySettings) -> Document:
    """A listener on the settings' address."""
    return typed(
        "envoy.config.listener.v3.Listener",
        name=name,
        address={"socket_address": {"address": settings.listen_host, "port_value": port}},
        per_connection_buffer_limit_bytes=max(_BUFFER_BYTES, 2 * settings.max_answer_bytes),
        filter_chains=filter_chains,
    )


def http_filters(settings: EnvoySettings) -> list[Document]:
    """In the order of requests; answers pass them in reverse.

    `buffer` stands before ext_proc: the picker never waits for a slow upload, and the body limit is Envoy's.
    """
    filters = [
        doorman(),
        body_limit(settings),
        usage_filter(),
        ext_proc_filter(settings),
        silence_filter(),
        router(),
    ]
    return [identity_strip(settings.trusted_sources), *filters] if settings.trusted_sources else filters


def body_limit(settings: EnvoySettings) -> Document:
    """Holds a request until its body is there, and answers 413 to one that is too long."""
    return extension(
        "envoy.filters.http.buffer",
        "envoy.extensions.filters.http.buffer.v3.Buffer",
        max_request_bytes=settings.max_body_bytes,
    )


def router() -> Document:
    """The last filter: on to the server."""
    return extension(
        "envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True
    )


def doorman() -> Document:
    """Refuses CONNECT at the headers; the buffer filter would wait for the end of a tunnel."""
    return extension(DOORMAN, "envoy.extensions.filters.http.rbac.v3.RBAC", rules=doors())


def doors(policies: Mapping[str, Document] = NO_MORE) -> Document:
    """What the doorman refuses: tunnels, and what fits one of `policies`, whose names reach `replies.py` in the
    response code details."""
    connect = {"header": {"name": ":method", "string_match": {"exact": "CONNECT"}}}
    tunnel = {"permissions": [connect], "principals": [{"any": True}]}
    return {"action": "DENY", "policies": {TUNNEL: tunnel, **policies}}


def connection_manager(
    settings: EnvoySettings, filters: list[Document], routes: Routes, replies: Document, strip: Document
) -> Document:
    """The network filter that speaks HTTP with clients."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=STAT_PREFIX,
        rds={
            "route_config_name": routes.name,
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": routes.path}},
        },
        http_filters=filters,
        access_log=[access_log()],
        local_reply_config=replies,
        **_edge_hardening(settings, strip),
        **_request_ids(),
        **_patience(settings),
    )


def _edge_hardening(settings: EnvoySettings, strip: Document) -> Document:
    """Envoy's own list for proxies at the edge; and no client counts as internal, so nobody's x-envoy-* is believed."""
    return {
        "early_header_mutation_extensions": [strip],
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
