"""`stellwerk epp` as a process, spoken to as other gateways speak: over TLS, with hints and trailers of theirs."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.processes import call, free_port, simulated_servers, stellwerk, wait_until

pytestmark = pytest.mark.integration

PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
DESTINATION = "x-gateway-destination-endpoint"
BODY = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'
DUPLEX = pb.ProtocolConfiguration(request_body_mode=4, response_body_mode=4)
SECONDS = 10


class Picker:
    """A running `stellwerk epp` over two simulated servers."""

    def __init__(self, servers: list[str], admin: str, grpc_port: int, health_port: int, is_secure: bool) -> None:
        self.servers = servers
        self.admin = admin
        self.health_port = health_port
        self.channel = channel_to(grpc_port, is_secure)

    def converse(self, *messages: pb.ProcessingRequest) -> list[Any]:
        """What comes back for `messages`, after which the proxy has no more to say."""
        process = self.channel.stream_stream(
            PATH,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        return list(process(iter(messages), timeout=SECONDS))

    def samples(self) -> dict[tuple[str, ...], float]:
        """The metrics page: a name and its label values to the value."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(call(f"{self.admin}/metrics").body.decode())
            for sample in family.samples
        }

    def total(self, name: str) -> float:
        """A metric's sum over its labels."""
        return sum(value for key, value in self.samples().items() if key[0] == name)

    def in_flight(self) -> int:
        return sum(one["requests"] for one in call(f"{self.admin}/api/pools").json()["pools"][0]["endpoints"])


def channel_to(port: int, is_secure: bool) -> grpc.Channel:
    address = f"127.0.0.1:{port}"
    if not is_secure:
        return grpc.insecure_channel(address)
    certificate = ssl.get_server_certificate(("127.0.0.1", port)).encode()
    credentials = grpc.ssl_channel_credentials(certificate)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", "localhost")])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def picker(request: pytest.FixtureRequest) -> Iterator[Picker]:
    ports = free_port(), free_port(), free_port()
    flags = [
        part
        for name, port in zip(("grpc", "grpc-health", "metrics"), ports, strict=True)
        for part in (f"--{name}-port", str(port))
    ]
    with simulated_servers(2, "--speed", "instant") as sim:
        servers = [part for url in sim.urls for part in ("--server", url)]
        with stellwerk("epp", *servers, *flags, f"--secure-serving={str(request.param).lower()}") as child:
            admin = f"http://127.0.0.1:{ports[2]}"

            def is_ready() -> bool:
                child.expect_alive()
                with contextlib.suppress(OSError):
                    return call(f"{admin}/readyz").status == 200
                return False

            wait_until("the picker", is_ready)
            for port in ports:
                # Ready means that every port is open.
                socket.create_connection(("127.0.0.1", port)).close()
            addresses = [url.removeprefix("http://") for url in sim.urls]
            yield Picker(addresses, admin, ports[0], ports[1], request.param)


def fields(pairs: dict[str, str]) -> Any:
    return core.HeaderMap(headers=[core.HeaderValue(key=key, raw_value=value.encode()) for key, value in pairs.items()])


def request_headers(end: bool = False, hint: object = None, path: str = "/v1/chat/completions") -> Any:
    pairs = {":method": "GET" if end else "POST", ":path": path, "content-type": "application/json"}
    message = pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=fields(pairs), end_of_stream=end), protocol_config=DUPLEX
    )
    if hint is not None:
        metadata = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        metadata.update({"x-gateway-destination-endpoint-subset": hint})
    return message


def request_body(body: bytes = BODY, end: bool = True) -> Any:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end))


def response_headers(kind: str, status: int = 200) -> Any:
    headers = fields({":status": str(status), "content-type": kind})
    return pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=headers))


def response_body(body: bytes, end: bool = True) -> Any:
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end))


def kinds(answers: list[Any]) -> list[str]:
    return [one.WhichOneof("response") for one in answers]


def destination(answer: Any) -> str:
    """Header and metadata, which must agree."""
    headers = {
        one.header.key: one.header.raw_value for one in answer.request_headers.response.header_mutation.set_headers
    }
    told: str = answer.dynamic_metadata["envoy.lb"][DESTINATION]
    assert headers[DESTINATION] == told.encode()
    return told


def test_one_address_unless_more_are_asked_for(picker: Picker) -> None:
    """Not every gateway reads a list where it expects an address."""
    for _ in range(20):
        answers = picker.converse(request_headers(), request_body())
        assert kinds(answers) == ["request_headers", "request_body"]
        assert destination(answers[0]) in picker.servers


def test_a_whole_exchange_with_trailers_both_ways(picker: Picker) -> None:
    answers = picker.converse(
        request_headers(),
        request_body(BODY[:20], end=False),
        request_body(BODY[20:], end=False),
        pb.ProcessingRequest(request_trailers=pb.HttpTrailers(trailers=fields({"x-t": "1"}))),
        response_headers("text/event-stream"),
        response_body(b"data: {}\n\n", end=False),
        pb.ProcessingRequest(response_trailers=pb.HttpTrailers()),
    )
    assert kinds(answers) == [
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
    ]
    pieces = [
        one.request_body.response.body_mutation.streamed_response for one in answers if one.HasField("request_body")
    ]
    assert b"".join(one.body for one in pieces) == BODY
    assert not any(one.end_of_stream for one in pieces)
    wait_until("nothing in flight", lambda: picker.in_flight() == 0)


@pytest.mark.parametrize("has_body", [True, False])
def test_a_hint_binds_in_whatever_form_it_comes(picker: Picker, has_body: bool) -> None:
    only = picker.servers[1]
    good: tuple[object, ...] = ([only], only, f" {only} ,, 10.9.9.9:1")
    for hint in good:
        rest = (request_body(),) if has_body else ()
        answers = picker.converse(
            request_headers(not has_body, hint, "/v1/chat/completions" if has_body else "/x"), *rest
        )
        assert destination(answers[0]) == only
    bad: tuple[object, ...] = ([], "", 7, True, {"a": only}, [[only]], ["10.9.9.9:1"])
    for hint in bad:
        rest = (request_body(),) if has_body else ()
        (refused,) = picker.converse(request_headers(not has_body, hint, "/x"), *rest)
        assert refused.immediate_response.status.code == 503


def test_a_listing_and_an_observed_request_take_nothing(picker: Picker) -> None:
    (listing,) = picker.converse(request_headers(end=True, path="/v1/models?x=1"))
    assert listing.immediate_response.status.code == 200
    assert b'"tiny"' in listing.immediate_response.body
    observed = request_headers()
    observed.observability_mode = True
    assert picker.converse(observed) == []
    assert picker.in_flight() == 0


def test_the_page_has_upstreams_families_under_new_and_old_names(picker: Picker) -> None:
    stream = [response_body(b"data: {}\n\n", end=False) for _ in range(3)]
    picker.converse(
        request_headers(), request_body(), response_headers("text/event-stream"), *stream, response_body(b"")
    )
    samples, total = picker.samples, picker.total
    wait_until("the end of the stream", lambda: total("llm_d_epp_request_streaming_itl_seconds_count") == 2)
    for name in (
        "llm_d_epp_request_processing_duration_seconds_count",
        "llm_d_epp_response_processing_duration_seconds_count",
        "llm_d_epp_scheduler_e2e_duration_seconds_count",
        "llm_d_epp_extproc_stream_duration_seconds_count",
        "inference_objective_request_duration_seconds_count",
        "inference_extension_scheduler_e2e_duration_seconds_count",
    ):
        assert total(name) >= 1, name
    assert samples()["llm_d_epp_extproc_streams_total", "OK"] >= 1
    assert total("inference_objective_request_total") == total("llm_d_epp_request_total")
    assert total("inference_pool_ready_pods") == 2
    call_open = picker.channel.stream_stream(
        PATH,
        request_serializer=pb.ProcessingRequest.SerializeToString,
        response_deserializer=pb.ProcessingResponse.FromString,
    )
    waits = threading.Event()

    def messages() -> Iterator[pb.ProcessingRequest]:
        yield request_headers()
        yield request_body()
        waits.wait(SECONDS)

    answers = call_open(messages(), timeout=SECONDS)
    next(answers)
    assert total("llm_d_epp_inflight_requests") == 1
    assert any(key[0] == "llm_d_epp_inflight_tokens" for key in samples())
    waits.set()
    list(answers)
    wait_until("nothing in flight", lambda: total("llm_d_epp_inflight_requests") == 0)


def moved(before: dict[tuple[str, ...], float], after: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """What grew of the request metrics, without buckets and sums of seconds."""
    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}
    names = ("llm_d_epp_request_", "llm_d_epp_response_size", "stellwerk_refusals", "inference_objective_request_error")
    left_out = ("_bucket", "_sum", "_processing_duration_seconds_count", "_ttft_seconds_count")
    return {key: value for key, value in grown.items() if key[0].startswith(names) and not key[0].endswith(left_out)}


def test_a_request_that_is_refused_unread_is_an_error_of_no_model_once(picker: Picker) -> None:
    before = picker.samples()
    (refused,) = picker.converse(request_headers(), request_body(b"{"))
    assert refused.immediate_response.status.code == 400
    assert moved(before, picker.samples()) == {
        ("llm_d_epp_request_total", "", "", "default-flow", "0"): 1,
        ("llm_d_epp_request_error_total", "", "", "default-flow", "0", "BadRequest"): 1,
        ("inference_objective_request_error_total", "", "", "BadRequest"): 1,
        ("stellwerk_refusals_total", "", "malformed_body"): 1,
    }


def test_a_refusal_of_the_engine_is_counted_once(picker: Picker) -> None:
    before = picker.samples()
    picker.converse(request_headers(hint=["10.9.9.9:1"]), request_body())
    grown = moved(before, picker.samples())
    errors = {key: value for key, value in grown.items() if key[0] == "llm_d_epp_request_error_total"}
    assert errors == {("llm_d_epp_request_error_total", "tiny", "tiny", "default-flow", "0", "ServiceUnavailable"): 1}


def test_an_error_after_the_pick_is_the_model_servers(picker: Picker) -> None:
    row = ("llm_d_epp_request_error_total", "tiny", "tiny", "default-flow", "0")
    before = picker.samples()
    messages = (response_headers("application/json", 500), response_body(b"{}"))
    picker.converse(request_headers(), request_body(), *messages)
    wait_until("the report", lambda: (*row, "ModelServerError") in moved(before, picker.samples()))
    assert [key for key in moved(before, picker.samples()) if key[0] == row[0]] == [(*row, "ModelServerError")]


def test_a_stream_without_an_answer_has_no_duration_and_no_size(picker: Picker) -> None:
    row = ("tiny", "tiny", "default-flow", "0")
    picker.converse(request_headers(), request_body(), response_headers("application/json"), response_body(b"{}"))
    wait_until("nothing in flight", lambda: picker.in_flight() == 0)
    before = picker.samples()
    picker.converse(request_headers(), request_body())
    wait_until("nothing in flight", lambda: picker.in_flight() == 0)
    assert moved(before, picker.samples()) == {
        ("llm_d_epp_request_total", *row): 1,
        ("llm_d_epp_request_size_bytes_count", *row): 1,
    }


@pytest.mark.parametrize(
    "service", ["", "liveness", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor"]
)
def test_health_is_told_by_every_name_in_use(picker: Picker, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{picker.health_port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = service.encode()
        assert check(b"\x0a%c%s" % (len(name), name) if name else b"", timeout=SECONDS) == b"\x08\x01"
