"""Listeners of a Gateway: one per port; HTTPS ones choose the certificate by the name that the client gives.

Certificates come from the picker (SDS): new ones serve new connections, standing ones stay, and no key is in a file.
"""

from collections.abc import Sequence

from stellwerk.control.envoy.document import Document, typed
from stellwerk.control.envoy.headers import ROUTE_IDENTITY, ROUTE_INTERNAL, stripped_early
from stellwerk.control.envoy.listener import Routes, connection_manager, listening
from stellwerk.control.envoy.picker import asks_picker
from stellwerk.control.envoy.replies import local_replies, table_of_routes
from stellwerk.control.envoy.route_mode.filters import http_filters
from stellwerk.control.envoy.route_mode.routes import route_name
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.control.gateway.hostname import ANY
from stellwerk.control.gateway.plan import PlannedListener

_TLS = "envoy.extensions.transport_sockets.tls.v3"


def routes_file(port: int, paths: RuntimePaths) -> str:
    """Where the routes of a port are written."""
    return f"{paths.watched}/routes-{port}.json"


def listener(port: int, bound: int, listeners: Sequence[PlannedListener], settings: EnvoySettings) -> Document:
    """The LDS resource of the Gateway's `port`, which is `bound` on this machine."""
    prefixes = ROUTE_INTERNAL if settings.trusted_sources else ROUTE_INTERNAL + ROUTE_IDENTITY
    manager = connection_manager(
        settings,
        http_filters(settings),
        Routes(route_name(port), routes_file(port, settings.paths)),
        local_replies(table_of_routes(settings)),
        stripped_early(prefixes),
    )
    if listeners[0].checked.listener.protocol == "HTTP":
        return listening(f"port-{port}", bound, [{"filters": [manager]}], settings)
    chains = [_tls_chain(each, manager, settings) for each in listeners]
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
    }
    return {**listening(f"port-{port}", bound, chains, settings), "listener_filters": [inspector]}


def _tls_chain(planned: PlannedListener, manager: Document, settings: EnvoySettings) -> Document:
    certificates = [{"name": each.secret, "sds_config": asks_picker()} for each in planned.checked.certificates]
    context = typed(
        f"{_TLS}.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": certificates,
        },
    )
    chain: Document = {
        "name": planned.name,
        "filters": [manager],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
    }
    if planned.checked.hostname != ANY:
        chain["filter_chain_match"] = {"server_names": [planned.checked.hostname]}
    return chain
