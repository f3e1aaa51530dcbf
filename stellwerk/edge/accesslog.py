"""Envoy's access log as the last word on each exchange: StreamAccessLogs to `Finished` events.

Envoy writes one entry when an exchange is over, and, of long ones, entries in between. The custom tags that our
configuration adds name the exchange (`ticket`) and carry what Envoy measured inside: time to first byte, token counts.
Nothing in an entry is believed to be well-formed; one that is not ours (another epoch, no ticket) is skipped.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType, ResponseFlags
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from google.protobuf.message import DecodeError
from msgspec import Struct

from stellwerk.edge.grpc.service import Call
from stellwerk.edge.grpc.status import Status
from stellwerk.model.event import Finished, Prefilled
from stellwerk.model.report import Report, Usage

PATH = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_MAX_TOKENS = 1_000_000_000
_MAX_SECONDS = 7 * 24 * 3600.0
_MAX_TICKET_DIGITS = 18
_log = logging.getLogger("stellwerk.accesslog")

_FLAGS = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}
"""Names of `%RESPONSE_FLAGS%` (Envoy documentation, "Access logging", command operators)."""

_NOT_FINAL = {
    AccessLogType.DownstreamPeriodic,
    AccessLogType.DownstreamStart,
    AccessLogType.DownstreamTunnelSuccessfullyEstablished,
    AccessLogType.UpstreamPoolReady,
    AccessLogType.UpstreamPeriodic,
    AccessLogType.UpstreamEnd,
}


class Counts(Struct):
    """For metrics."""

    entries: int = 0
    foreign: int = 0
    """Entries without a ticket of this process's life."""
    undecodable: int = 0
    failures: int = 0
    """Bugs. Each is in the log."""


class AccessLogService:
    """A `edge.grpc.service.Service`. `report` hands an event to the engine and its commands to whom they concern
    (`ExtProcService.tell` with the time). `epoch` is the one in the tickets that the ext_proc service gives out."""

    def __init__(self, epoch: str, report: Callable[[Finished | Prefilled], None]) -> None:
        self.counts = Counts()
        self._prefix = f"{epoch}-"
        self._report = report

    def __call__(self, call: Call) -> "LogStream":
        """A new call: Envoy keeps one per worker thread, for as long as it lives."""
        return LogStream(call, self)

    def take(self, message: bytes) -> None:
        """One message of a stream: some entries. Raises DecodeError."""
        decoded = StreamAccessLogsMessage.FromString(message)
        for entry in decoded.http_logs.log_entry:
            self.counts.entries += 1
            try:
                event = read(entry, self._prefix)
                if event is None:
                    self.counts.foreign += 1
                else:
                    self._report(event)
            except Exception:  # noqa: BLE001
                self.counts.failures += 1
                _log.exception("access log entry failed")


class LogStream:
    """One call. A `edge.grpc.service.Handler`."""

    __slots__ = ("_call", "_is_over", "_service")

    def __init__(self, call: Call, service: AccessLogService) -> None:
        self._call = call
        self._service = service
        self._is_over = False

    def on_message(self, message: bytes) -> None:
        """A `StreamAccessLogsMessage`."""
        if self._is_over:
            return
        try:
            self._service.take(message)
        except DecodeError:
            self._service.counts.undecodable += 1
            self._is_over = True
            self._call.finish(Status.INVALID_ARGUMENT, "the message is not a StreamAccessLogsMessage")

    def on_half_close(self) -> None:
        """The proxy is going away."""
        if not self._is_over:
            self._is_over = True
            self._call.send(StreamAccessLogsResponse().SerializeToString())
            self._call.finish()

    def on_closed(self) -> None:
        """Nothing is held."""
        self._is_over = True


def read(entry: Any, prefix: str) -> Finished | Prefilled | None:
    """The event that an `HTTPAccessLogEntry` tells of. `prefix` is `<epoch>-`. None: it tells nothing.

    An entry of a running exchange tells at most that its first byte was seen.
    """
    common = entry.common_properties
    tags = common.custom_tags
    ticket = _ticket(tags.get("ticket", ""), prefix)
    if ticket is None:
        return None
    ttft = _number(tags.get("ttft_us", ""), _MAX_SECONDS * 1e6)
    if common.intermediate_log_entry or common.access_log_type in _NOT_FINAL:
        return None if ttft is None else Prefilled(ticket)
    response = entry.response
    code = response.response_code.value
    report = Report(
        status=code if code < 1000 else 0,
        served=_served(common, response),
        is_stream=tags.get("content_type", "").lower().startswith("text/event-stream"),
        ttft_seconds=None if ttft is None else ttft / 1e6,
        duration_seconds=_duration(common),
        request_bytes=entry.request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        usage=_usage(tags),
        flags=_flags(common.response_flags) if common.HasField("response_flags") else "",
    )
    return Finished(ticket, report)


def _ticket(tag: str, prefix: str) -> int | None:
    if not tag.startswith(prefix):
        return None
    digits = tag[len(prefix) :]
    if not digits.isascii() or not digits.isdigit() or len(digits) > _MAX_TICKET_DIGITS:
        return None
    return int(digits)


def _number(text: str, most: float) -> float | None:
    """A finite number in [0, most], or None: absent tags are empty or `-`, and servers may say anything."""
    if not text or len(text) > 32:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= most else None


def _usage(tags: Mapping[str, str]) -> Usage | None:
    counts = [_number(tags.get(name, ""), _MAX_TOKENS) for name in ("prompt_tokens", "cached_tokens", "output_tokens")]
    if counts == [None, None, None]:
        return None
    prompt, cached, output = (None if value is None else int(value) for value in counts)
    return Usage(prompt, cached, output)


def _served(common: Any, response: Any) -> str | None:
    """`ip:port` of the server that answered. A server that was tried without an answer (refused, reset before its
    headers) is named by Envoy too; the answer was Envoy's then, and the details say so."""
    address = common.upstream_remote_address.socket_address
    host: str = address.address
    port: int = address.port_value
    if not host or not port:
        return None
    details: str = response.response_code_details
    if details and not details.startswith("via_upstream") and not response.upstream_header_bytes_received:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _duration(common: Any) -> float | None:
    for name in ("duration", "time_to_last_downstream_tx_byte", "time_to_last_upstream_rx_byte"):
        if common.HasField(name):
            value = getattr(common, name)
            seconds: float = value.seconds + value.nanos / 1e9
            return seconds if 0 <= seconds <= _MAX_SECONDS else None
    return None


def _flags(flags: ResponseFlags) -> str:
    return ",".join([_FLAGS[field.name] for field, _ in flags.ListFields() if field.name in _FLAGS])
