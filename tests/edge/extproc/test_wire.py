"""Every hand-written encoding, against what protobuf makes of the same message."""

from array import array
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2 as core
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf import duration_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.edge.extproc import wire
from stellwerk.exchange.command import Adjust, Extend, Forward, Mode, ReplaceBody, Reply, SendBody, Slot
from stellwerk.exchange.refusal import Rendered
from stellwerk.model.outcome import Scores
from tests.kit.exchanges import picked

NAMES = {slot: slot.name.lower() for slot in Slot}
DESTINATION = "127.0.0.1:9001,127.0.0.1:9002"


def option(name: str, value: str) -> Any:
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, raw_value=value.encode("latin-1")),
        append_action=core.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def in_slot(slot: Slot, common: Any) -> Any:
    message = pb.ProcessingResponse()
    getattr(message, NAMES[slot]).response.CopyFrom(common)
    return message


def parsed(message: bytes) -> Any:
    return pb.ProcessingResponse.FromString(message)


def decision(slot: Slot, *headers: tuple[str, str], removed: tuple[str, ...] = (), ticket: str | None = None) -> Any:
    mutation = pb.HeaderMutation(
        set_headers=[
            option(name, value) for name, value in (("x-gateway-destination-endpoint", DESTINATION), *headers)
        ],
        remove_headers=removed,
    )
    message = in_slot(slot, pb.CommonResponse(header_mutation=mutation, clear_route_cache=True))
    lb = message.dynamic_metadata.fields["envoy.lb"].struct_value
    lb.fields["x-gateway-destination-endpoint"].string_value = DESTINATION
    if ticket is not None:
        message.dynamic_metadata.fields["stellwerk"].struct_value.fields["ticket"].string_value = ticket
    return message


@pytest.mark.parametrize("slot", Slot)
def test_an_answer_without_changes(slot: Slot) -> None:
    expected = pb.ProcessingResponse()
    getattr(expected, NAMES[slot]).SetInParent()
    assert parsed(wire.CONTINUE[slot]) == expected
    assert wire.CONTINUE[slot] == expected.SerializeToString()


@pytest.mark.parametrize("slot", [Slot.REQUEST_HEADERS, Slot.REQUEST_BODY])
@pytest.mark.parametrize("removed", [(), ("x-llm-d-slo-ttft-ms", "x-gateway-inference-objective")])
def test_a_decision_for_a_foreign_gateway_is_what_protobuf_writes(slot: Slot, removed: tuple[str, ...]) -> None:
    assert parsed(wire.forward(Forward(slot, picked(), removed), None)) == decision(slot, removed=removed)


@pytest.mark.parametrize("ticket", ["e-1", "1f-12345678901", "x" * 130])
def test_a_decision_for_our_own_envoy_has_the_pool_and_the_ticket(ticket: str) -> None:
    message = wire.forward(Forward(Slot.REQUEST_BODY, picked()), ticket)
    assert parsed(message) == decision(Slot.REQUEST_BODY, ("x-stellwerk-pool", "default/llama"), ticket=ticket)


@pytest.mark.parametrize("size", [1, 100, 127, 128, 16_383, 16_384, 300_000])
def test_a_body_that_changes(size: int) -> None:
    body = b"x" * size
    message = wire.forward(Forward(Slot.REQUEST_BODY, picked(), (), body, size), "e-1")
    length = ("content-length", str(size))
    expected = decision(Slot.REQUEST_BODY, length, ("x-stellwerk-pool", "default/llama"), ticket="e-1")
    expected.request_body.response.body_mutation.body = body
    assert parsed(message) == expected


def test_a_body_that_changes_in_chunks_has_only_its_length_in_the_decision() -> None:
    message = wire.forward(Forward(Slot.REQUEST_HEADERS, picked(), (), None, 9), None)
    assert parsed(message) == decision(Slot.REQUEST_HEADERS, ("content-length", "9"))


def test_scores_of_endpoints() -> None:
    scored = Scores(("127.0.0.1:9001", "127.0.0.1:9002", "[::1]:9003"), array("d", (1.5, 0.25, -0.0)))
    message = wire.forward(Forward(Slot.REQUEST_HEADERS, picked(scores=scored)), None)
    expected = decision(Slot.REQUEST_HEADERS)
    lb = expected.dynamic_metadata.fields["envoy.lb"].struct_value
    scores = lb.fields["x-gateway-destination-endpoint-scores"].struct_value
    scores.fields["127.0.0.1:9001"].number_value = 1.5
    scores.fields["127.0.0.1:9002"].number_value = 0.25
    scores.fields["[::1]:9003"].number_value = -0.0
    assert parsed(message) == expected


def test_a_decision_on_trailers_is_in_the_metadata_alone() -> None:
    expected = pb.ProcessingResponse()
    expected.request_trailers.SetInParent()
    lb = expected.dynamic_metadata.fields["envoy.lb"].struct_value
    lb.fields["x-gateway-destination-endpoint"].string_value = DESTINATION
    assert parsed(wire.forward(Forward(Slot.REQUEST_TRAILERS, picked()), None)) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([Slot.REQUEST_BODY, Slot.RESPONSE_BODY]),
    st.one_of(st.integers(0, 300), st.sampled_from([16_383, 16_384, 62_000])),
    st.booleans(),
    st.booleans(),
)
def test_a_piece_of_a_body(slot: Slot, size: int, is_last: bool, is_view: bool) -> None:
    body = bytes(size)
    message = wire.send_body(SendBody(slot, memoryview(body) if is_view else body, is_last))
    streamed = pb.StreamedBodyResponse(body=body, end_of_stream=is_last)
    expected = in_slot(slot, pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed)))
    assert message == expected.SerializeToString()


def test_a_whole_answer_is_replaced_with_its_length() -> None:
    mutation = pb.HeaderMutation(set_headers=[option("content-length", "3")])
    common = pb.CommonResponse(header_mutation=mutation, body_mutation=pb.BodyMutation(body=b"abc"))
    assert parsed(wire.replace_body(ReplaceBody(b"abc", True))) == in_slot(Slot.RESPONSE_BODY, common)


def test_a_chunk_is_replaced_or_held_back() -> None:
    common = pb.CommonResponse(body_mutation=pb.BodyMutation(body=b"abc"))
    assert parsed(wire.replace_body(ReplaceBody(b"abc", False))) == in_slot(Slot.RESPONSE_BODY, common)
    common = pb.CommonResponse(body_mutation=pb.BodyMutation(clear_body=True))
    assert parsed(wire.replace_body(ReplaceBody(b"", False))) == in_slot(Slot.RESPONSE_BODY, common)


@pytest.mark.parametrize("mode", [Mode.BUFFERED, Mode.STREAMED])
def test_another_mode_for_the_answer(mode: Mode) -> None:
    expected = pb.ProcessingResponse()
    expected.response_headers.response.header_mutation.remove_headers.append("content-length")
    expected.mode_override.response_header_mode = processing_mode_pb2.ProcessingMode.SEND
    expected.mode_override.response_body_mode = mode.value
    assert parsed(wire.adjust(Adjust(mode, removes_content_length=True))) == expected
    expected.response_headers.Clear()
    expected.response_headers.SetInParent()
    assert parsed(wire.adjust(Adjust(mode))) == expected


def test_the_answer_is_asked_for_and_the_request_body_as_before() -> None:
    expected = pb.ProcessingResponse()
    expected.request_headers.SetInParent()
    expected.mode_override.response_header_mode = processing_mode_pb2.ProcessingMode.SEND
    expected.mode_override.request_body_mode = processing_mode_pb2.ProcessingMode.BUFFERED
    assert parsed(wire.WATCH) == expected


def test_the_server_that_answered_is_named() -> None:
    expected = pb.ProcessingResponse()
    mutation = pb.HeaderMutation(set_headers=[option("x-conformance-test-served-endpoint", "10.0.0.1:3000")])
    expected.response_headers.response.header_mutation.CopyFrom(mutation)
    assert parsed(wire.adjust(Adjust(served="10.0.0.1:3000"))) == expected


@pytest.mark.parametrize("body", [b"", b'{"error": {}}', b"x" * 500])
def test_an_answer_of_our_own(body: bytes) -> None:
    headers = (("content-type", "application/json"), ("retry-after", "1"))
    message = wire.reply(Reply(Rendered(429, headers, body), "stellwerk_saturated"))
    expected = pb.ProcessingResponse()
    immediate = expected.immediate_response
    immediate.status.code = 429
    immediate.headers.set_headers.extend([option(name, value) for name, value in headers])
    immediate.body = body
    immediate.details = "stellwerk_saturated"
    assert parsed(message) == expected
    assert not parsed(message).immediate_response.HasField("grpc_status")


@pytest.mark.parametrize("seconds", [0.25, 1.0, 6.0, 119.999])
def test_more_patience(seconds: float) -> None:
    expected = pb.ProcessingResponse(override_message_timeout=duration_pb2.Duration())
    expected.override_message_timeout.FromMilliseconds(round(seconds * 1000))
    assert parsed(wire.extend(Extend(seconds))) == expected
