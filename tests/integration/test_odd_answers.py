"""Answers that model servers should not give, and sometimes do: what the client sees of them through real Envoy."""

import contextlib
import http.client
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import Gateway, call, gateway, wait_until

pytestmark = pytest.mark.integration

_MODELS = b'{"object":"list","data":[{"id":"served","object":"model"}]}'
_METRICS = b"vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n"
OBJECTS = """
apiVersion: stellwerk.dev/v1alpha1
kind: ModelServer
metadata: {name: odd, labels: {app: odd}}
spec: {address: 127.0.0.1, ports: [%d]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: odd, annotations: {stellwerk.dev/restore-streamed-model: "true"}}
spec: {selector: {matchLabels: {app: odd}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: public}
spec: {modelName: public, poolRef: {name: odd}, targetModels: [{name: served}]}
"""


class OddServer:
    """A model server that answers every request but those of the gateway itself with the bytes of `answer`, and then
    closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.lingers_seconds = 0.0
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = request.partition(b"\r\n\r\n")
            if head.startswith((b"GET /v1/models ", b"GET /metrics ")):
                page = _MODELS if b"/v1/models" in head else _METRICS
                kind = b"application/json" if page is _MODELS else b"text/plain"
                connection.sendall(full(page, kind))
                return
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            while lengths and len(body) < int(lengths[0]):
                body += connection.recv(65536)
            connection.sendall(self.answer)
            self.closing.wait(self.lingers_seconds)


def full(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: %s\r\n%scontent-length: %d\r\nconnection: close\r\n\r\n%s" % (
        status,
        kind,
        more,
        len(body),
        body,
    )


def chunked(*chunks: bytes, kind: bytes = b"application/json", ends: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % kind
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + (b"0\r\n\r\n" if ends else b"")


@pytest.fixture(scope="module")
def odd() -> Iterator[tuple[OddServer, Gateway]]:
    server = OddServer()

    with tempfile.TemporaryDirectory() as directory:
        objects = Path(directory, "objects.yaml")
        objects.write_text(OBJECTS % server.port)
        with gateway("-f", str(objects)) as running:
            yield server, running
    server.close()


def ask(running: Gateway, path: str = "/v1/chat/completions") -> Any:
    return call(f"{running.url}{path}", {"model": "public", "messages": []})


BIG = b"y" * 8_000_000


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (full(b'{"model":"served","x":1}'), b'{"model":"public","x":1}'),
        (full(b'{"model":"served","x":"' + BIG + b'"}'), b'{"model":"public","x":"' + BIG + b'"}'),
        (chunked(b'{"id":1,"mo', b'del"', b':"ser', b'ved"}'), b'{"id":1,"model":"public"}'),
        (
            chunked(b'data: {"mod', b'el":"served"}\n', b"\n", kind=b"text/event-stream"),
            b'data: {"model":"public"}\n\n',
        ),
        (chunked(b'data: {"model":"served"}', kind=b"text/event-stream; charset=utf-8"), b'data: {"model":"public"}'),
        (b'HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{"model":"served"}', b'{"model":"public"}'),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + full(b'{"model":"served"}'), b'{"model":"public"}'),
        (full(b"about served", b"text/plain"), b"about served"),
        (full(b"", b"application/json"), b""),
    ],
    ids=["json", "8 MB", "chunked", "events", "no last newline", "HTTP/1.0", "100 Continue", "text", "empty"],
)
def test_the_public_name_comes_back_and_nothing_else_changes(
    odd: tuple[OddServer, Gateway], answer: bytes, expected: bytes
) -> None:
    server, running = odd
    server.answer = answer
    got = ask(running)
    assert got.status == 200
    assert got.body == expected
    assert int(got.headers.get("content-length", len(expected))) == len(expected)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
def test_errors_of_servers_are_theirs(odd: tuple[OddServer, Gateway], status: int) -> None:
    server, running = odd
    body = b'{"object":"error","message":"of the server, about served","code":%d}' % status
    server.answer = full(body, status=b"%d Whatever" % status, more=b"x-own: 1\r\n")
    got = ask(running)
    assert (got.status, got.body, got.headers["x-own"]) == (status, body, "1")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx-large: " + b"a" * 200_000 + b"\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["nothing", "garbage", "cut short", "two lengths", "large header"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_answers_that_are_none_are_typed_errors(odd: tuple[OddServer, Gateway], answer: bytes, path: str) -> None:
    server, running = odd
    server.answer = answer
    got = ask(running, path)
    assert got.status in (502, 503)
    error = json.loads(got.body)["error"]
    assert "model server" in error["message"]
    assert error["type"] == ("api_error" if path == "/v1/messages" else "server_error")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_end(odd: tuple[OddServer, Gateway], status: bytes) -> None:
    server, running = odd
    server.answer = b"HTTP/1.1 %s\r\n\r\n" % status
    got = ask(running)
    assert (got.status, got.body) == (int(status[:3]), b"")


def test_a_stream_that_breaks_is_seen_to_break_and_nothing_stays_reserved(odd: tuple[OddServer, Gateway]) -> None:
    server, running = odd
    server.answer = chunked(b'data: {"model":"served"}\n\n', kind=b"text/event-stream", ends=False)
    server.lingers_seconds = 0.2
    for _ in range(10):
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(running)
        assert caught.value.partial in (b"", b'data: {"model":"public"}\n\n')
    server.lingers_seconds = 0.0
    wait_until("nothing in flight", lambda: not sum(e["requests"] for e in running.pools()["pools"][0]["endpoints"]))
