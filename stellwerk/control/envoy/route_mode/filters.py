"""The chain of filters of a Gateway. What only some backends need is off, and turned on by the backend itself.

A backend is a weighted cluster, so a rule's traffic may be split over pools with different pickers, or over a pool and
a Service: each share runs through the filters of its own backend, since Envoy draws the cluster before it builds the
chain, and keeps it.
"""

from stellwerk.control.envoy.document import Document, extension, seconds, typed
from stellwerk.control.envoy.headers import POOL_HEADER, ROUTE_IDENTITY, identity_strip
from stellwerk.control.envoy.listener import body_limit, doorman, router
from stellwerk.control.envoy.picker import CLUSTER, LB_NAMESPACE, OWN_NAMESPACE
from stellwerk.control.envoy.route_mode.cors import cors_filter
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.envoy.usage import usage_filter
from stellwerk.control.gateway.backend import BodyMode, ForeignPicker, PoolTarget, Unresolved
from stellwerk.control.gateway.rule import AnyTarget

BUFFER, USAGE = "stellwerk.buffer", "stellwerk.usage"
OWN_PICKER = "stellwerk.picker"
FOREIGN_PICKERS = {BodyMode.DUPLEX: "stellwerk.picker.duplex", BodyMode.STREAMED: "stellwerk.picker.streamed"}

SERVED_HEADER = "x-stellwerk-served"
"""Only between two parts of Envoy: who served, on its way from the router to the picker."""
SERVED_KEY = "x-gateway-destination-endpoint-served"

_PREVIOUS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_ANOTHER_REPLICA: Document = {
    "retry_on": "connect-failure,refused-stream,reset,unavailable",
    "num_retries": 2,
    "retry_host_predicate": [extension("envoy.retry_host_predicates.previous_hosts", _PREVIOUS)],
    "host_selection_retry_max_attempts": 3,
    "retry_back_off": {"base_interval": "0.025s"},
}
"""A picker that goes away before it has said anything: the next one is asked."""
_FILTER = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
_PER_ROUTE = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"


def http_filters(settings: EnvoySettings) -> list[Document]:
    """In the order of requests; answers pass them in reverse. They depend on settings only: no change of objects ever
    drains a connection."""
    filters = [
        doorman(),
        cors_filter(),
        _off(BUFFER, body_limit(settings)),
        _off(USAGE, usage_filter()),
        _off(OWN_PICKER, _own_picker(settings)),
        *(_off(name, _foreign_picker(mode, settings)) for mode, name in FOREIGN_PICKERS.items()),
        _served(),
        router(),
    ]
    return [identity_strip(settings.trusted_sources, ROUTE_IDENTITY), *filters] if settings.trusted_sources else filters


def turned_on(target: AnyTarget, settings: EnvoySettings) -> Document:
    """`typed_per_filter_config` of a backend's weighted cluster: none for a Service."""
    if not isinstance(target, PoolTarget):
        return {}
    if target.picker is None:
        metadata = [{"key": POOL_HEADER, "value": target.pool}]
        own = _overrides(grpc_initial_metadata=metadata, failure_mode_allow=target.is_open)
        usage = typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute")
        return {**_buffer(settings), USAGE: usage, OWN_PICKER: own}
    if isinstance(target.picker, Unresolved) or (target.is_open and not target.picker.members):
        # Nobody to ask, and the pool is FailOpen: its cluster chooses.
        return {}
    return _foreign(target.picker, target.is_open, settings)


def _foreign(picker: ForeignPicker, is_open: bool, settings: EnvoySettings) -> Document:
    called = {"cluster_name": picker.cluster, "authority": picker.authority}
    service = {"envoy_grpc": called, "retry_policy": _ANOTHER_REPLICA}
    asked = {FOREIGN_PICKERS[picker.mode]: _overrides(grpc_service=service, failure_mode_allow=is_open)}
    return asked if picker.mode is BodyMode.DUPLEX else {**_buffer(settings), **asked}


def says_served() -> list[Document]:
    """`response_headers_to_add` of a backend whose picker wants to know who served."""
    header = {"key": SERVED_HEADER, "value": "%UPSTREAM_REMOTE_ADDRESS%"}
    return [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


def _own_picker(settings: EnvoySettings) -> Document:
    return extension(
        OWN_PICKER,
        _FILTER,
        **_process(settings, "BUFFERED", "NONE", "SKIP"),
        grpc_service={"envoy_grpc": {"cluster_name": CLUSTER}},
        allow_mode_override=True,
        metadata_options={"receiving_namespaces": {"untyped": [LB_NAMESPACE, OWN_NAMESPACE]}},
    )


def _foreign_picker(mode: BodyMode, settings: EnvoySettings) -> Document:
    metadata = {
        "forwarding_namespaces": {"untyped": [LB_NAMESPACE]},
        "receiving_namespaces": {"untyped": [LB_NAMESPACE]},
    }
    if mode is BodyMode.DUPLEX:
        more = _process(settings, "FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED", "SEND")
    else:
        more = _process(settings, "STREAMED", "NONE", "SKIP")
        more["send_body_without_waiting_for_header_response"] = True
    more["message_timeout"] = seconds(settings.foreign_picker_seconds)
    # Every backend names its own cluster; without that nobody must be asked.
    nobody = {"envoy_grpc": {"cluster_name": "picker/none"}}
    return extension(FOREIGN_PICKERS[mode], _FILTER, **more, grpc_service=nobody, metadata_options=metadata)


def _process(settings: EnvoySettings, request_body: str, response_body: str, trailers: str) -> Document:
    """`RETAIN`: the route is chosen before the picker is asked, and what the picker writes must not choose again."""
    return {
        "processing_mode": {
            "request_header_mode": "SEND",
            "request_body_mode": request_body,
            "request_trailer_mode": trailers,
            "response_header_mode": "SEND",
            "response_body_mode": response_body,
            "response_trailer_mode": trailers,
        },
        "route_cache_action": "RETAIN",
        "message_timeout": seconds(settings.message_seconds),
        "max_message_timeout": seconds(settings.max_override_seconds),
        "status_on_error": {"code": "ServiceUnavailable"},
        "mutation_rules": {"disallow_system": True},
    }


def _served() -> Document:
    rule = {
        "header": SERVED_HEADER,
        "on_header_present": {"metadata_namespace": LB_NAMESPACE, "key": SERVED_KEY, "type": "STRING"},
        "remove": True,
    }
    return extension(
        "stellwerk.served", "envoy.extensions.filters.http.header_to_metadata.v3.Config", response_rules=[rule]
    )


def _off(name: str, inner: Document) -> Document:
    return {**inner, "name": name, "disabled": True}


def _buffer(settings: EnvoySettings) -> Document:
    limit = {"max_request_bytes": settings.max_body_bytes}
    return {BUFFER: typed("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", buffer=limit)}


def _overrides(**overrides: object) -> Document:
    return typed(_PER_ROUTE, overrides=overrides)
