"""Access log entries to events, with entries that nobody would write."""

import logging
import math
from typing import Any

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2 as log
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import duration_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.edge.accesslog import AccessLogService, read
from stellwerk.edge.grpc.status import Status
from stellwerk.model.event import Finished, Prefilled
from stellwerk.model.report import Report, Usage


def entry(
    ticket: str = "e-7",
    code: int = 200,
    served: tuple[str, int] | None = ("127.0.0.1", 9001),
    details: str = "via_upstream",
    flags: Any = None,
    **tags: str,
) -> Any:
    """An entry as Envoy writes it at the end of an exchange."""
    made = log.HTTPAccessLogEntry()
    common = made.common_properties
    common.access_log_type = log.AccessLogType.DownstreamEnd
    common.custom_tags.update({"ticket": ticket, **tags})
    if served is not None:
        common.upstream_remote_address.socket_address.address = served[0]
        common.upstream_remote_address.socket_address.port_value = served[1]
    if flags is not None:
        common.response_flags.CopyFrom(flags)
    made.response.response_code.value = code
    made.response.response_code_details = details
    return made


def report_of(made: Any) -> Report:
    event = read(made, "e-")
    assert isinstance(event, Finished)
    return event.report


def test_a_plain_end_tells_everything() -> None:
    made = entry(
        ttft_us="250000",
        prompt_tokens="12",
        cached_tokens="8",
        output_tokens="99.000000",
        content_type="text/event-stream; charset=utf-8",
    )
    made.common_properties.duration.CopyFrom(duration_pb2.Duration(seconds=2, nanos=500_000_000))
    made.request.request_body_bytes = 2000
    made.response.response_body_bytes = 3000
    assert read(made, "e-") == Finished(
        7,
        Report(
            status=200,
            served="127.0.0.1:9001",
            is_stream=True,
            ttft_seconds=0.25,
            duration_seconds=2.5,
            request_bytes=2000,
            response_bytes=3000,
            usage=Usage(12, 8, 99),
        ),
    )


@pytest.mark.parametrize("ticket", ["", "-", "7", "other-7", "e-", "e--7", "e-7x", "e-²", "e-" + "9" * 19, "e-7\n"])
def test_what_carries_no_ticket_of_this_life_is_not_ours(ticket: str) -> None:
    assert read(entry(ticket), "e-") is None


def test_an_address_of_the_sixth_version_is_written_in_brackets() -> None:
    assert report_of(entry(served=("::1", 9001))).served == "[::1]:9001"


@pytest.mark.parametrize(
    ("served", "details", "header_bytes", "credited"),
    [
        (("10.0.0.1", 80), "via_upstream", 100, "10.0.0.1:80"),
        (("10.0.0.1", 80), "", 0, "10.0.0.1:80"),
        (("10.0.0.1", 80), "upstream_reset_after_response_started{connection_termination}", 100, "10.0.0.1:80"),
        (("10.0.0.1", 80), "upstream_reset_before_response_started{connection_failure}", 0, None),
        (None, "route_not_found", 0, None),
        (("10.0.0.1", 0), "via_upstream", 100, None),
    ],
)
def test_only_a_server_that_answered_is_credited(
    served: Any, details: str, header_bytes: int, credited: str | None
) -> None:
    made = entry(served=served, details=details)
    made.response.upstream_header_bytes_received = header_bytes
    assert report_of(made).served == credited


def test_flags_have_envoys_short_names() -> None:
    flags = log.ResponseFlags(
        upstream_connection_failure=True,
        upstream_request_timeout=True,
        downstream_connection_termination=True,
        unauthorized_details=log.ResponseFlags.Unauthorized(),
    )
    assert set(report_of(entry(flags=flags)).flags.split(",")) == {"UF", "UT", "DC", "UAEX"}


def test_every_flag_of_this_envoy_has_a_name() -> None:
    every = log.ResponseFlags(unauthorized_details=log.ResponseFlags.Unauthorized())
    for field in log.ResponseFlags.DESCRIPTOR.fields:
        if field.message_type is None:
            setattr(every, field.name, True)
    assert len(report_of(entry(flags=every)).flags.split(",")) == len(log.ResponseFlags.DESCRIPTOR.fields)


@pytest.mark.parametrize("value", ["", "-", "NaN", "inf", "-1", "1e30", "0x10", "x" * 1000, "1" * 40])
def test_nonsense_in_a_tag_counts_as_nothing(value: str) -> None:
    report = report_of(entry(ttft_us=value, prompt_tokens=value, cached_tokens=value, output_tokens=value))
    assert (report.ttft_seconds, report.usage) == (None, None)


def test_the_counts_that_make_sense_are_kept() -> None:
    assert report_of(entry(prompt_tokens="12", output_tokens="NaN")).usage == Usage(12, None, None)


def test_an_entry_of_a_running_exchange_tells_of_the_first_byte_at_most() -> None:
    made = entry(ttft_us="250000")
    made.common_properties.access_log_type = log.AccessLogType.DownstreamPeriodic
    assert read(made, "e-") == Prefilled(7)
    del made.common_properties.custom_tags["ttft_us"]
    assert read(made, "e-") is None


@pytest.mark.parametrize("seconds", [-5, 10**9])
def test_an_impossible_duration_is_none(seconds: int) -> None:
    made = entry()
    made.common_properties.duration.seconds = seconds
    assert report_of(made).duration_seconds is None


def test_an_impossible_status_is_none() -> None:
    assert report_of(entry(code=70_000)).status == 0


class PlayedCall:
    path = ""
    metadata = ()
    unsent_bytes = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.statuses: list[Status] = []

    def send(self, *messages: bytes) -> None:
        self.sent += messages

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.statuses.append(status)

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def message(*entries: Any) -> bytes:
    logs = als_pb2.StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=entries)
    made: bytes = als_pb2.StreamAccessLogsMessage(http_logs=logs).SerializeToString()
    return made


def test_all_entries_of_a_stream_are_reported_in_order() -> None:
    told: list[int] = []
    service = AccessLogService("e", lambda event: told.append(event.ticket))
    stream = service(PlayedCall())
    stream.on_message(message(entry("e-1"), entry("x-9"), entry("e-2")))
    stream.on_message(message())
    stream.on_message(message(entry("e-3")))
    assert told == [1, 2, 3]
    assert (service.counts.entries, service.counts.foreign) == (4, 1)


def test_a_bug_behind_one_entry_does_not_hide_the_next(caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    def report(event: Finished | Prefilled) -> None:
        if event.ticket == 1:
            raise ZeroDivisionError
        told.append(event.ticket)

    service = AccessLogService("e", report)
    with caplog.at_level(logging.CRITICAL):
        service(PlayedCall()).on_message(message(entry("e-1"), entry("e-2")))
    assert told == [2]
    assert service.counts.failures == 1


def test_bytes_that_are_no_message_end_their_stream() -> None:
    call = PlayedCall()
    stream = AccessLogService("e", lambda event: None)(call)
    stream.on_message(b"\xff\xff")
    stream.on_message(message(entry()))
    stream.on_half_close()
    stream.on_closed()
    assert call.statuses == [Status.INVALID_ARGUMENT]


def test_a_proxy_that_goes_away_gets_its_one_answer() -> None:
    call = PlayedCall()
    stream = AccessLogService("e", lambda event: None)(call)
    stream.on_half_close()
    assert (call.sent, call.statuses) == ([b""], [Status.OK])


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40), st.floats(), st.integers(0, 2**32 - 1))
def test_no_entry_makes_a_number_that_is_none(text: str, number: float, code: int) -> None:
    report = report_of(
        entry(code=code, ttft_us=repr(number), prompt_tokens=text.replace("\ud800", ""), output_tokens="3")
    )
    assert report.ttft_seconds is None or (math.isfinite(report.ttft_seconds) and report.ttft_seconds >= 0)
    assert report.usage is not None
    assert report.usage.prompt_tokens is None or report.usage.prompt_tokens >= 0
