"""A client's forged internal headers change nothing, whatever state the picker is in."""

import http.client
import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.kit.load import chat
from tests.kit.objects import canary, pool, servers_of
from tests.kit.processes import Gateway, Sim, call, gateway, picker_of, simulated_servers, wait_until

pytestmark = pytest.mark.integration

HITS: list[str] = []


class Secret(http.server.BaseHTTPRequestHandler):
    """A service that no client may reach through the gateway."""

    def do_POST(self) -> None:
        """Record the visit."""
        HITS.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def secret() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Secret)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def servers() -> Iterator[Sim]:
    with simulated_servers(2, "--model", "base", "--model", "other", "--speed", "instant") as sim:
        yield sim


@pytest.fixture(scope="module")
def running(servers: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("objects")
    objects = [
        *servers_of(servers.ports[:1], app="first"),
        *servers_of(servers.ports[1:], app="second"),
        pool("first", "FailOpen", {"stellwerk.dev/default-pool": "true"}),
        pool("second", "FailOpen"),
        canary("named", {"base": 1}, pool="first"),
    ]
    (directory / "objects.yaml").write_text("\n---\n".join(objects))
    with gateway("-f", str(directory)) as running:
        yield running


def forged(secret: str) -> list[tuple[str, str]]:
    """Every internal header, in the spellings a client might try."""
    names = [
        "x-gateway-destination-endpoint",
        "X-Gateway-Destination-Endpoint",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-scores",
        "test-epp-endpoint-selection",
    ]
    return [(name, secret) for name in names] + [
        ("x-stellwerk-pool", "default/second"),
        ("x-stellwerk-ticket", "1-1"),
        ("x-llm-d-inference-objective", "vip"),
        ("x-gateway-inference-objective", "vip"),
        ("x-llm-d-inference-fairness-id", "other-tenant"),
        ("x-gateway-inference-fairness-id", "other-tenant"),
        ("x-llm-d-model-name-rewrite", "other"),
        ("x-gateway-model-name-rewrite", "other"),
        ("x-envoy-original-dst-host", secret),
        ("x-envoy-upstream-alt-stat-name", "x"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
    ]


def post(url: str, headers: list[tuple[str, str]], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """A POST that may repeat headers, which urllib cannot."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.putrequest("POST", "/v1/chat/completions")
        for name, value in [("content-type", "application/json"), ("content-length", str(len(body))), *headers]:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def check_all(running: Gateway, servers: Sim, secret: str) -> None:
    """Each forged header alone, twice, and all together: the first pool answers, as without them."""

    body = json.dumps(chat("base")).encode()
    every = forged(secret)
    first = str(servers.ports[0])
    for headers in [[one] for one in every] + [[one, one] for one in every] + [every]:
        status, answer, text = post(running.url, headers, body)
        assert status == 200, (headers, text)
        assert answer["x-sim-server"].endswith(first), (headers, answer)
    assert HITS == []


def test_with_the_picker_well(running: Gateway, servers: Sim, secret: str) -> None:
    wait_until("both pools", lambda: call(f"{running.url}/v1/chat/completions", chat("named")).status == 200)
    check_all(running, servers, secret)


def test_with_the_picker_frozen(running: Gateway, servers: Sim, secret: str) -> None:
    pid = picker_of(running)
    os.kill(pid, signal.SIGSTOP)
    try:
        body = json.dumps(chat("base")).encode()
        status, answer, text = post(running.url, forged(secret), body)
        assert status == 200, text
        assert answer["x-sim-server"].endswith(str(servers.ports[0]))
        assert HITS == []
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("the thaw", lambda: call(f"{running.url}/v1/chat/completions", chat("named")).status == 200)


def test_with_the_picker_dead(running: Gateway, servers: Sim, secret: str) -> None:

    before = picker_of(running)
    os.kill(before, signal.SIGKILL)
    body = json.dumps(chat("base")).encode()
    for _ in range(20):
        status, answer, text = post(running.url, forged(secret), body)
        assert status == 200, text
        assert answer["x-sim-server"].endswith(str(servers.ports[0]))
    assert HITS == []
    wait_until("the picker's return", lambda: call(f"{running.url}/v1/chat/completions", chat("named")).status == 200)


def test_the_model_server_never_sees_an_internal_header_of_the_client(running: Gateway, secret: str) -> None:

    wait_until("both pools", lambda: call(f"{running.url}/v1/chat/completions", chat("named")).status == 200)
    status, answer, _ = post(
        running.url, [*forged(secret), ("x-sim-echo-headers", "1")], json.dumps(chat("base")).encode()
    )
    assert status == 200
    seen = answer.get("x-sim-request-headers", "").lower()
    for name in ("inference-objective", "fairness-id", "model-name-rewrite", "test-epp"):
        assert name not in seen
    assert secret not in seen


def test_a_priority_header_does_not_lift_a_sheddable_request(running: Gateway, secret: str) -> None:
    post(running.url, forged(secret), b'{"model":"named","messages":[]}')
    decision = call(f"{running.admin_url}/api/decisions?limit=1").json()["decisions"][0]
    assert decision["priority"] == 0
    assert secret not in str(decision["candidates"])
