"""What the picker counts although answers pass it by: in flight until the last byte, and token counts of every API."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.load import chat
from tests.kit.processes import Gateway, call, gateway, simulated_servers, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with (
        simulated_servers(1, "--model", "llama", "--speed", "instant", "--step-ms", "20") as sim,
        gateway("--server", sim.urls[0]) as running,
    ):
        yield running


def in_flight(running: Gateway) -> int:
    """Requests in flight, by the gateway's own count."""
    return sum(endpoint["requests"] for pool in running.pools()["pools"] for endpoint in pool["endpoints"])


def counted(running: Gateway, name: str) -> float:
    """Sum of a metric over its labels."""
    lines = [line for line in running.metrics().splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_stream_is_in_flight_until_its_last_byte(running: Gateway) -> None:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    try:
        body = json.dumps(chat("llama", stream=True, max_tokens=100, ignore_eos=True))
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        for _ in range(5):
            assert response.readline()
            assert in_flight(running) == 1
        while response.readline():
            pass
        wait_until("nothing in flight", lambda: in_flight(running) == 0)
    finally:
        connection.close()


def test_a_client_that_leaves_mid_stream_still_releases_its_endpoint(running: Gateway) -> None:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    body = json.dumps(chat("llama", stream=True, max_tokens=2_000, ignore_eos=True))
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    assert connection.getresponse().readline()
    wait_until("one in flight", lambda: in_flight(running) == 1)
    connection.close()
    wait_until("nothing in flight", lambda: in_flight(running) == 0, seconds=10)


def test_a_client_that_leaves_before_the_answer_counts_as_a_request_and_has_no_duration() -> None:
    with (
        simulated_servers(1, "--model", "llama", "--speed", "instant", "--step-ms", "20") as sim,
        gateway("--server", sim.urls[0]) as running,
    ):
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
        body = json.dumps(chat("llama", max_tokens=2_000, ignore_eos=True))
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        wait_until("one in flight", lambda: in_flight(running) == 1)
        connection.close()
        wait_until("nothing in flight", lambda: in_flight(running) == 0, seconds=10)
        # Of each of Envoy's threads the log comes in order, and later exchanges are spread over them.
        for _ in range(20):
            assert call(running.url + "/v1/chat/completions", chat("llama", max_tokens=1)).status == 200
        wait_until("the access log", lambda: counted(running, "llm_d_epp_request_duration_seconds_count") >= 20)
        assert counted(running, "llm_d_epp_request_total") >= 21
        assert counted(running, "llm_d_epp_request_duration_seconds_count") == 20
        assert counted(running, "llm_d_epp_response_size_bytes_count") == 20


def test_a_request_that_is_refused_unread_is_an_error_once(running: Gateway) -> None:
    before = counted(running, "llm_d_epp_request_error_total")
    assert call(running.url + "/v1/chat/completions", b"{").status == 400
    assert counted(running, "llm_d_epp_request_error_total") == before + 1
    assert 'error_code="BadRequest"} 1' in running.metrics()
    assert 'stellwerk_refusals_total{pool="",reason="malformed_body"} 1' in running.metrics()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("llama", max_tokens=7, ignore_eos=True)),
        (
            "/v1/chat/completions",
            chat("llama", max_tokens=7, ignore_eos=True, stream=True, stream_options={"include_usage": True}),
        ),
        ("/v1/completions", {"model": "llama", "prompt": "Once", "max_tokens": 7, "ignore_eos": True}),
        ("/v1/responses", {"model": "llama", "input": "Hi", "max_output_tokens": 7, "ignore_eos": True}),
        (
            "/v1/responses",
            {"model": "llama", "input": "Hi", "max_output_tokens": 7, "ignore_eos": True, "stream": True},
        ),
        ("/v1/messages", chat("llama", max_tokens=7, ignore_eos=True)),
        ("/v1/messages", chat("llama", max_tokens=7, ignore_eos=True, stream=True)),
    ],
)
def test_output_tokens_are_those_that_the_server_reported(running: Gateway, path: str, body: dict[str, Any]) -> None:
    tokens, answers = "llm_d_epp_request_output_tokens_sum", "llm_d_epp_request_output_tokens_count"
    before = counted(running, tokens), counted(running, answers)
    assert call(running.url + path, body).status == 200
    wait_until("the access log", lambda: counted(running, answers) == before[1] + 1)
    assert counted(running, tokens) == before[0] + 7
    assert counted(running, "stellwerk_estimated_answers_total") == 0
