"""Conversations in protobuf, with an engine that the test plays."""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from stellwerk.edge.extproc import PATH, ExtProcService, ExtProcSettings, families
from stellwerk.edge.extproc.service import Conversation
from stellwerk.edge.grpc.status import Status
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.event import Ask, Decided, Event, Finished, Prefilled, Released, TurnedAway, Withdrawn
from stellwerk.model.outcome import Outcome, Refused
from stellwerk.model.reason import Reason
from stellwerk.telemetry.render import Histogram
from tests.kit.exchanges import BODY, picked

BUFFERED, DUPLEX = 2, 4


class PlayedCall:
    """A call whose other end is the test."""

    path = PATH
    metadata: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.status: Status | None = None
        self.message = ""
        self.pauses: list[bool] = []
        self.unsent_bytes = 0

    def send(self, *messages: bytes) -> None:
        assert self.status is None
        self.sent += [pb.ProcessingResponse.FromString(message) for message in messages]

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        assert self.status is None
        self.status = status
        self.message = message

    def pause(self) -> None:
        self.pauses.append(True)

    def resume(self) -> None:
        self.pauses.append(False)


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Stage:
    """A service with a played engine, clock and timers. `decides` answers an Ask at once; None: later."""

    def __init__(self, decides: Outcome | None = None, **changes: Any) -> None:
        self.now = 0.0
        self.told: list[Event] = []
        self.decides = decides
        self.then: list[Decided] = []
        self.timers: list[tuple[float, Timer]] = []
        settings = ExtProcSettings(**{"is_own_proxy": True, "epoch": "e", **changes})
        self.service = ExtProcService(
            self.receive, settings, lambda: self.now, make_id=lambda: "made", call_later=self.call_later
        )

    def receive(self, event: Event, now: float) -> list[Decided]:
        self.told.append(event)
        decided, self.then = self.then, []
        if isinstance(event, Ask) and self.decides is not None:
            return [*decided, Decided(event.ticket, self.decides)]
        return decided

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self.timers.append((self.now + seconds, timer))
        return timer

    def wait_until(self, now: float) -> None:
        self.now = now
        for at, timer in list(self.timers):
            if at <= now and timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()

    def call(self) -> "Talk":
        return Talk(self.service)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


class Talk:
    """One conversation, from the proxy's side."""

    def __init__(self, service: ExtProcService) -> None:
        self.call = PlayedCall()
        self.handler: Conversation = service(self.call)

    def say(self, **fields: Any) -> list[Any]:
        before = len(self.call.sent)
        self.handler.on_message(pb.ProcessingRequest(**fields).SerializeToString())
        return self.call.sent[before:]

    def headers(self, mode: int | None = None, end: bool = False, **extra: Any) -> list[Any]:
        if mode is not None:
            response_mode = DUPLEX if mode == DUPLEX else 0
            extra["protocol_config"] = pb.ProtocolConfiguration(
                request_body_mode=mode, response_body_mode=response_mode
            )
        pairs = {":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json"}
        return self.say(request_headers=http_headers(pairs, end), **extra)

    def body(self, body: bytes = BODY, end: bool = True, **extra: Any) -> list[Any]:
        return self.say(request_body=pb.HttpBody(body=body, end_of_stream=end), **extra)

    def leave(self) -> None:
        self.handler.on_closed()


def http_headers(pairs: dict[str, str], end: bool = False) -> Any:
    headers = [core.HeaderValue(key=name, raw_value=value.encode()) for name, value in pairs.items()]
    return pb.HttpHeaders(headers=core.HeaderMap(headers=headers), end_of_stream=end)


def kinds(messages: list[Any]) -> list[str]:
    return [message.WhichOneof("response") or "override" for message in messages]


def test_a_buffered_request_is_decided_at_its_body() -> None:
    stage = Stage(picked())
    talk = stage.call()
    assert kinds(talk.headers(BUFFERED)) == ["request_headers"]
    (answer,) = talk.body()
    assert answer.request_body.response.clear_route_cache
    assert answer.dynamic_metadata["stellwerk"]["ticket"] == "e-1"
    assert answer.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] == picked().destination
    talk.leave()
    assert [type(event) for event in stage.told] == [Ask, Released]
    assert stage.service.counts.open == 0


def test_the_proxys_modes_are_followed() -> None:
    stage = Stage(picked())
    talk = stage.call()
    assert talk.headers(DUPLEX) == []
    assert kinds(talk.body()) == ["request_headers", "request_body"]


def test_without_modes_a_foreign_gateway_is_taken_at_the_protocols_word() -> None:
    stage = Stage(picked(), is_own_proxy=False)
    talk = stage.call()
    assert talk.headers() == []
    answer, body = talk.body()
    assert not answer.dynamic_metadata.fields["stellwerk"].HasField("struct_value")
    assert body.request_body.response.body_mutation.streamed_response.end_of_stream


@pytest.mark.parametrize("mode", [5, 17])
def test_a_mode_that_is_not_known_closes_the_stream(mode: int) -> None:
    talk = Stage(picked()).call()
    talk.headers(mode)
    assert talk.call.status is Status.UNIMPLEMENTED


def test_a_late_decision_finds_its_exchange() -> None:
    stage = Stage()
    first, second = stage.call(), stage.call()
    for talk in (first, second):
        talk.headers(BUFFERED)
        assert kinds(talk.body()) == ["override"]
    stage.service.dispatch([Decided(2, picked()), Decided(1, Refused(Reason.EXPIRED, "late"))])
    assert kinds(first.call.sent)[-1] == "immediate_response"
    assert kinds(second.call.sent)[-1] == "request_body"
    assert first.call.status is Status.OK
    assert not stage.service.waiting


def test_a_decision_that_comes_along_with_anothers_question_is_delivered() -> None:
    stage = Stage()
    first, second = stage.call(), stage.call()
    first.headers(BUFFERED)
    first.body()
    second.headers(BUFFERED)
    stage.decides = picked()
    stage.then = [Decided(1, picked())]
    assert kinds(second.body()) == ["request_body"]
    assert kinds(first.call.sent)[-1] == "request_body"


def test_a_decision_for_nobody_is_given_back() -> None:
    stage = Stage()
    talk = stage.call()
    talk.headers(BUFFERED)
    talk.body()
    talk.leave()
    assert not stage.service.waiting
    stage.service.dispatch([Decided(1, picked()), Decided(1, Refused(Reason.EXPIRED, "late"))])
    assert stage.told[1:] == [Withdrawn(1), Released(1)]


def test_a_slot_that_frees_up_goes_to_the_next() -> None:
    stage = Stage(picked())
    first = stage.call()
    first.headers(BUFFERED)
    first.body()
    stage.decides = None
    second = stage.call()
    second.headers(BUFFERED)
    second.body()
    stage.then = [Decided(2, picked())]
    first.leave()
    assert kinds(second.call.sent)[-1] == "request_body"


@pytest.mark.parametrize("mode", [BUFFERED, DUPLEX])
def test_the_watchdog_answers_504_in_either_mode(mode: int) -> None:
    stage = Stage()
    talk = stage.call()
    talk.headers(mode)
    talk.body()
    stage.wait_until(4.9)
    assert talk.call.status is None
    stage.wait_until(5.0)
    assert talk.call.sent[-1].immediate_response.status.code == 504
    assert talk.call.sent[-1].immediate_response.details == "stellwerk_deadline_exceeded"
    assert stage.told[1:] == [Withdrawn(1), TurnedAway(1, Reason.DEADLINE)]


def test_the_watchdog_follows_an_upload_that_goes_on() -> None:
    stage = Stage(picked())
    talk = stage.call()
    talk.headers(DUPLEX)
    stage.wait_until(10.0)
    talk.body(BODY[:5], end=False)
    stage.wait_until(15.0)
    assert talk.call.status is None
    stage.wait_until(25.0)
    assert talk.call.sent[-1].immediate_response.status.code == 504


def hint(value: object) -> Any:
    metadata = core.Metadata()
    metadata.filter_metadata["envoy.lb.subset_hint"].update({"x-gateway-destination-endpoint-subset": value})
    return metadata


@pytest.mark.parametrize("place", ["headers", "body"])
def test_a_hint_counts_on_any_request_message(place: str) -> None:
    stage = Stage(picked())
    talk = stage.call()
    extra = {"metadata_context": hint(["10.0.0.1:80"])}
    talk.headers(BUFFERED, **(extra if place == "headers" else {}))
    talk.body(**(extra if place == "body" else {}))
    assert stage.of(Ask)[0].request.subset == ("10.0.0.1:80",)


def test_a_foreign_gateways_exchange_reports_the_server_that_answered() -> None:
    stage = Stage(picked(), is_own_proxy=False)
    talk = stage.call()
    talk.headers(DUPLEX)
    talk.body()
    metadata = core.Metadata()
    metadata.filter_metadata["envoy.lb"].update({"x-gateway-destination-endpoint-served": "127.0.0.1:9002"})
    headers = http_headers({":status": "200", "content-type": "text/event-stream"})
    talk.say(response_headers=headers, metadata_context=metadata)
    talk.say(response_body=pb.HttpBody(body=b"data: {}\n\n"))
    talk.say(response_body=pb.HttpBody(end_of_stream=True))
    assert [type(event) for event in stage.told] == [Ask, Prefilled, Finished, Released]
    assert stage.of(Finished)[0].report.served == "127.0.0.1:9002"
    assert stage.of(Finished)[0].report.status == 200
    assert stage.of(Finished)[0].report.has_passed


def test_an_exchange_that_ends_without_an_answer_is_reported_as_such() -> None:
    stage = Stage(picked(), is_own_proxy=False)
    talk = stage.call()
    talk.headers(DUPLEX)
    talk.body()
    talk.handler.on_half_close()
    talk.leave()
    (finished,) = stage.of(Finished)
    assert (finished.report.status, finished.report.has_passed) == (0, False)


@pytest.mark.parametrize(
    "message",
    [
        pb.ProcessingRequest(),
        pb.ProcessingRequest(request_headers=pb.HttpHeaders()),
        pb.ProcessingRequest(request_headers=pb.HttpHeaders(end_of_stream=True)),
        pb.ProcessingRequest(request_body=pb.HttpBody()),
        pb.ProcessingRequest(request_trailers=pb.HttpTrailers()),
        pb.ProcessingRequest(response_headers=pb.HttpHeaders()),
        pb.ProcessingRequest(response_body=pb.HttpBody()),
        pb.ProcessingRequest(response_trailers=pb.HttpTrailers()),
    ],
    ids=lambda message: message.WhichOneof("request") or "nothing",
)
@pytest.mark.parametrize("is_own", [True, False])
def test_an_empty_message_harms_nobody(message: Any, is_own: bool) -> None:
    stage = Stage(picked(), is_own_proxy=is_own)
    talk, other = stage.call(), stage.call()
    talk.handler.on_message(message.SerializeToString())
    talk.handler.on_message(message.SerializeToString())
    talk.leave()
    other.headers(BUFFERED)
    assert kinds(other.body()) == ["request_body"]
    assert stage.service.counts.failures == 0


def test_a_message_of_an_unknown_kind_is_not_answered() -> None:
    talk = Stage(picked()).call()
    talk.handler.on_message(b"\xfa\x01\x00")
    assert (talk.call.sent, talk.call.status) == ([], None)


def test_bytes_that_are_no_message_end_their_own_stream() -> None:
    stage = Stage(picked())
    talk = stage.call()
    talk.headers(BUFFERED)
    talk.body()
    talk.handler.on_message(b"\xff\xff\xff")
    assert talk.call.status is Status.INVALID_ARGUMENT
    assert stage.told[-1] == Released(1)
    talk.handler.on_message(b"\xff")
    talk.leave()
    assert stage.service.counts.undecodable == 1


def test_an_observer_gets_no_answers() -> None:
    talk = Stage(picked()).call()
    assert talk.headers(BUFFERED, observability_mode=True) == []
    assert talk.call.status is Status.OK


@pytest.mark.parametrize("where", ["ask", "release"])
def test_a_bug_ends_one_stream_with_a_typed_500(where: str, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(picked())
    talk, other = stage.call(), stage.call()
    talk.headers(BUFFERED)
    received = stage.service.receive

    def broken(event: Event, now: float) -> Any:
        if isinstance(event, Ask if where == "ask" else Released) and event.ticket == 1:
            raise ZeroDivisionError
        return received(event, now)

    stage.service.receive = broken
    with caplog.at_level(logging.ERROR, logger="stellwerk.extproc"):
        talk.body()
        talk.leave()
    assert stage.service.counts.failures == 1
    assert len(caplog.records) == 1
    if where == "ask":
        assert stage.of(TurnedAway) == [TurnedAway(1, Reason.INTERNAL)]
        assert talk.call.sent[-1].immediate_response.status.code == 500
        assert talk.call.status is Status.OK
    other.headers(BUFFERED)
    assert kinds(other.body()) == ["request_body"]
    assert stage.service.counts.open == 1


def test_an_engine_that_fails_for_good_still_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(picked())
    talk = stage.call()
    talk.headers(BUFFERED)

    def broken(event: Event, now: float) -> Any:
        raise ZeroDivisionError

    stage.service.receive = broken
    talk.body()
    assert talk.call.status is not None
    talk.leave()
    assert stage.service.counts.open == 0


def test_uploads_pause_while_too_many_bytes_are_held() -> None:
    stage = Stage(picked(), max_buffered_bytes=100)
    first, second = stage.call(), stage.call()
    first.headers(DUPLEX)
    first.body(b"x" * 80, end=False)
    second.headers(DUPLEX)
    second.body(b"x" * 40, end=False)
    assert (first.call.pauses, second.call.pauses) == ([], [True])
    stage.wait_until(1.0)
    assert second.call.pauses == [True]
    first.leave()
    assert stage.service.counts.buffered_bytes == 40
    stage.wait_until(2.0)
    assert second.call.pauses == [True, False]
    second.leave()
    assert stage.service.counts.buffered_bytes == 0


def test_a_proxy_that_does_not_read_is_not_read_from() -> None:
    stage = Stage(picked(), is_own_proxy=False)
    talk = stage.call()
    talk.headers(DUPLEX)
    talk.body()
    talk.say(response_headers=http_headers({":status": "200"}))
    talk.call.unsent_bytes = 2_000_000
    talk.say(response_body=pb.HttpBody(body=b"x"))
    assert talk.call.pauses == [True]
    stage.wait_until(1.0)
    assert talk.call.pauses == [True]
    talk.call.unsent_bytes = 0
    stage.wait_until(2.0)
    assert talk.call.pauses == [True, False]


def test_the_body_limit_is_a_typed_413_of_which_the_engine_is_told() -> None:
    stage = Stage(picked(), limits=BodyLimits(max_body_bytes=10))
    talk = stage.call()
    talk.headers(BUFFERED)
    (answer,) = talk.body(b"x" * 11)
    assert answer.immediate_response.status.code == 413
    assert talk.call.status is Status.OK
    talk.leave()
    assert stage.told == [TurnedAway(1, Reason.BODY_TOO_LARGE)]


def test_a_proxy_that_half_closes_gets_its_answer_and_then_the_end() -> None:
    stage = Stage()
    talk = stage.call()
    talk.headers(BUFFERED)
    talk.body()
    talk.handler.on_half_close()
    assert kinds(talk.call.sent)[-1] == "override"
    stage.service.dispatch([Decided(1, picked())])
    assert kinds(talk.call.sent)[-1] == "request_body"
    assert talk.call.status is Status.OK
    talk.leave()
    assert stage.told[-1] == Released(1)


def seen(stage: Stage) -> dict[str, tuple[int, float]]:
    """Count and sum of every histogram of the service's page, and of its streams by code."""
    found: dict[str, tuple[int, float]] = {}
    for family in families(stage.service.counts):
        for labels, content in family.rows:
            key = ":".join((family.name.removeprefix("llm_d_epp_"), *labels))
            found[key] = (sum(content.counts), content.sum) if isinstance(content, Histogram) else (int(content), 0.0)
    return found


def test_streams_are_counted_by_how_they_end_and_how_long_they_were_open() -> None:
    stage = Stage(picked())
    served, refused, left, wrong = (stage.call() for _ in range(4))
    served.headers(BUFFERED)
    served.body()
    served.handler.on_half_close()
    refused.headers(BUFFERED)
    refused.body(b"{")
    left.headers(BUFFERED)
    wrong.handler.on_message(b"\xff")
    stage.now = 2.0
    for talk in (served, refused, left, wrong):
        talk.leave()
    stage.call()
    counted = seen(stage)
    assert counted["extproc_streams_total:OK"][0] == 2
    assert counted["extproc_streams_total:Canceled"][0] == 1
    assert counted["extproc_streams_total:InvalidArgument"][0] == 1
    assert counted["extproc_streams_inflight"][0] == 1
    assert counted["extproc_stream_duration_seconds"] == (4, 8.0)


def test_work_on_a_request_counts_from_its_first_message_to_its_decision_once() -> None:
    stage = Stage()
    late, refused = stage.call(), stage.call()
    late.headers(BUFFERED)
    stage.now = 0.5
    late.body()
    stage.now = 1.5
    stage.service.dispatch([Decided(1, picked())])
    refused.say(request_headers=http_headers({":method": "POST", ":path": "/v1/chat/completions"}, end=True))
    for talk in (late, refused):
        talk.leave()
    counted = seen(stage)
    assert counted["request_processing_duration_seconds"] == (2, 1.5)
    assert counted["scheduler_e2e_duration_seconds"][0] == 1
    assert counted["response_processing_duration_seconds"][0] == 0


def test_work_on_an_answer_is_the_sum_over_its_messages() -> None:
    stage = Stage(picked(), is_own_proxy=False)
    talk = stage.call()
    talk.headers(DUPLEX)
    talk.body()
    clock = itertools.count(10.0, 0.25)
    stage.service.clock = lambda: next(clock)
    talk.say(response_headers=http_headers({":status": "200", "content-type": "text/event-stream"}))
    talk.say(response_body=pb.HttpBody(body=b"data: 1\n\n"))
    talk.say(response_body=pb.HttpBody(end_of_stream=True))
    stage.service.clock = lambda: 20.0
    talk.leave()
    assert seen(stage)["response_processing_duration_seconds"] == (1, 0.75)
