"""What Envoy reads once: its admin socket, the picker's cluster, where to look for everything else, and its limits."""

from stellwerk.control.envoy.document import Document, extension
from stellwerk.control.envoy.picker import picker_cluster
from stellwerk.control.envoy.settings import EnvoySettings

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


_RUNTIME = {
    # Envoy's default of 100 refuses ordinary regular expressions of routes; their length and repetitions are bounded
    # before they come here.
    "re2.max_program_size.error_level": 100_000,
    "re2.max_program_size.warn_level": 100_000,
}


def bootstrap(settings: EnvoySettings) -> Document:
    """The document for `envoy --config-path`."""
    return {
        "node": {"id": "stellwerk", "cluster": "stellwerk"},
        "admin": {"address": {"pipe": {"path": settings.paths.admin_socket, "mode": 0o600}}},
        "static_resources": {"clusters": [picker_cluster(settings)]},
        "dynamic_resources": {
            "lds_config": _file(settings.paths.listeners),
            "cds_config": _file(settings.paths.clusters),
        },
        "overload_manager": _overload(settings),
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _RUNTIME}]},
    }


def _file(path: str) -> Document:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _overload(settings: EnvoySettings) -> Document:
    """Memory and connections are bounded: first give memory back, then refuse work, and never be killed for it."""
    message = "envoy.extensions.resource_monitors"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(_HEAP, f"{message}.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=settings.max_heap_bytes),
            extension(
                _CONNECTIONS,
                f"{message}.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=settings.max_connections,
            ),
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", 0.9),
            _action("envoy.overload_actions.disable_http_keepalive", 0.9),
            _action("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    }


def _action(name: str, threshold: float) -> Document:
    return {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": threshold}}]}
