"""Conversations that nobody would hold: any messages, any fields, broken bytes. Nothing breaks, nothing stays."""

from typing import Any

from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.edge.extproc import ExtProcService, ExtProcSettings
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.event import Ask, Decided, Event, Released, Withdrawn
from stellwerk.model.outcome import Picked
from tests.kit.exchanges import BODY, picked

SOME_BYTES = st.one_of(st.sampled_from([b"", BODY, BODY[:9], BODY[9:], b"data: {}\n\n"]), st.binary(max_size=300))
NAMES = st.one_of(
    st.sampled_from(
        [":method", ":path", ":status", "content-type", "content-length", "upgrade", "x-request-id", "trailer"]
    ),
    st.text(max_size=20),
)
VALUES = st.one_of(
    st.sampled_from(
        ["POST", "GET", "HEAD", "/v1/chat/completions", "/v1/messages", "200", "application/json", "text/event-stream"]
    ),
    st.text(max_size=20),
)
PAIRS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6)
JSON = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=9), st.lists(st.text(max_size=9), max_size=3))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["headers", "body", "trailers", "nothing", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=40))
    message = pb.ProcessingRequest()
    side = draw(st.sampled_from(["request", "response"]))
    if kind == "headers":
        part: Any = getattr(message, f"{side}_headers")
        part.headers.headers.extend([header(*pair) for pair in draw(PAIRS)])
        part.end_of_stream = draw(st.booleans())
    elif kind == "body":
        part = getattr(message, f"{side}_body")
        part.body = draw(SOME_BYTES)
        part.end_of_stream = draw(st.booleans())
    elif kind == "trailers":
        getattr(message, f"{side}_trailers").SetInParent()
    if draw(st.booleans()):
        message.protocol_config.request_body_mode = draw(st.integers(0, 6))
        message.protocol_config.response_body_mode = draw(st.integers(0, 6))
    if draw(st.booleans()):
        namespace, key = draw(
            st.sampled_from(
                [
                    ("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset"),
                    ("envoy.lb", "x-gateway-destination-endpoint-served"),
                ]
            )
        )
        message.metadata_context.filter_metadata[namespace].update({key: draw(JSON)})
    serialised: bytes = message.SerializeToString()
    return serialised


def header(name: str, value: str, is_raw: bool) -> Any:
    if is_raw:
        return core.HeaderValue(key=name, raw_value=value.encode())
    return core.HeaderValue(key=name, value=value)


class CheckedCall:
    """Every answer has to be a `ProcessingResponse`, and none may follow the end."""

    path = ""
    metadata = ()
    unsent_bytes = 0

    def __init__(self) -> None:
        self.is_finished = False

    def send(self, *messages: bytes) -> None:
        assert not self.is_finished
        for message in messages:
            assert pb.ProcessingResponse.FromString(message).WhichOneof("response") or message.startswith(b"\x52")

    def finish(self, status: object = None, message: str = "") -> None:
        assert not self.is_finished
        self.is_finished = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


class NoTimer:
    def cancel(self) -> None:
        pass


@settings(deadline=None, max_examples=150)
@given(
    st.lists(requests(), max_size=8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "served-by-us"]),
    st.sampled_from(["at once", "late", "never"]),
)
def test_no_conversation_breaks_anything(
    messages: list[bytes], is_own: bool, half_closes: bool, target: str | None, decides: str
) -> None:
    told: list[Event] = []
    outcome: Picked = picked(target_model=target)

    def receive(event: Event, now: float) -> tuple[Decided, ...]:
        told.append(event)
        return (Decided(event.ticket, outcome),) if isinstance(event, Ask) and decides == "at once" else ()

    service = ExtProcService(
        receive,
        ExtProcSettings(is_own_proxy=is_own, epoch="e", limits=BodyLimits(max_body_bytes=500), names_served=not is_own),
        lambda: 1.0,
        call_later=lambda seconds, callback: NoTimer(),
    )
    call = CheckedCall()
    conversation = service(call)
    for message in messages:
        conversation.on_message(message)
    if half_closes:
        conversation.on_half_close()
    was_asked = any(isinstance(event, Ask) for event in told)
    if decides == "late" and was_asked:
        service.dispatch([Decided(1, outcome)])
    conversation.on_closed()
    assert service.counts.failures == 0
    assert (service.counts.open, service.counts.buffered_bytes, len(service.waiting)) == (0, 0, 0)
    kinds = [type(event) for event in told]
    was_decided = was_asked and decides != "never"
    assert kinds.count(Released) == was_decided
    assert was_decided or kinds.count(Withdrawn) == was_asked
