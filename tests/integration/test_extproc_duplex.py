"""FULL_DUPLEX_STREAMED as foreign gateways use it: real Envoy, the real service and engine, bodies byte for byte."""

import asyncio
import contextlib
import hashlib
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stellwerk.edge import extproc
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.preflight import find_envoy
from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.catalog import Catalog, Pool, PublicModel, Split, Target
from stellwerk.model.event import Configured, Decided, Event, Finished, ModelsListed
from stellwerk.telemetry.meters import Meters
from tests.kit.exchanges import endpoint
from tests.kit.processes import call, free_port, wait_until

pytestmark = pytest.mark.integration

SIZES = [0, 1, 61_999, 62_000, 62_001, 65_536, 131_073, 1_048_577, 4_194_304, 16_000_000]
EVENTS = b'data: {"model": "served", "choices": []}\n\n' * 300 + b"data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    """Answers with the hash of what it got; `/events` with a stream, `/large` with as much as asked."""

    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float] = 20.0

    def do_POST(self) -> None:
        if "content-length" in self.headers:
            body = self.rfile.read(int(self.headers["content-length"]))
        else:
            body = b"".join(self.chunks())
        if self.path.startswith("/v1/chat"):
            self.answer("text/event-stream", EVENTS)
        elif self.path.startswith("/large"):
            self.answer("application/octet-stream", bytes(range(256)) * (len(body) // 256 + 1))
        else:
            names = {name.lower(): value for name, value in self.headers.items()}
            told = {"sha": hashlib.sha256(body).hexdigest(), "bytes": len(body), "headers": names, "model": "served"}
            self.answer("application/json", json.dumps(told).encode())

    do_GET = do_POST  # noqa: N815 - the library asks for this name

    def chunks(self) -> Iterator[bytes]:
        while "chunked" in self.headers.get("transfer-encoding", ""):
            size = int(self.rfile.readline(), 16)
            chunk = self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
            yield chunk

    def answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class Picker(threading.Thread):
    """The service in front of the real engine, on a port of loopback, as behind a foreign gateway."""

    def __init__(self, server_port: int) -> None:
        super().__init__(daemon=True)
        self.told: list[Event] = []
        self.port = 0
        self._engine = Engine(EngineSettings(), random.Random(1), Meters())
        one = endpoint(port=server_port)
        pool = Pool("default/llama", (one,))
        split = Split.of((Target("served", 1),), "test")
        models = {"public": PublicModel("public", pool.name, split)}
        now = time.monotonic()
        self._engine.receive(Configured(Catalog(1, {pool.name: pool}, models, pool.name)), now)
        self._engine.receive(ModelsListed(one.key, {"served": None}), now)
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.service = extproc.ExtProcService(
            self._receive, extproc.ExtProcSettings(is_own_proxy=False, epoch="e"), time.monotonic
        )

    def _receive(self, event: Event, now: float) -> tuple[Decided, ...]:
        self.told.append(event)
        return self._engine.receive(event, now)

    def in_flight(self) -> int:
        return sum(one.requests for pool in self._engine.describe(time.monotonic()).pools for one in pool.endpoints)

    def run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = GrpcServer({extproc.PATH: self.service})
        _, self.port = await server.listen_tcp("127.0.0.1", 0)
        await self._ending.wait()
        self.service.close()
        await server.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(10)


def typed(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.{kind}", **fields}}


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        **more,
    }


def envoy_config(port: int, picker_port: int, server_port: int) -> dict[str, Any]:
    """What the endpoint picker protocol asks of a gateway."""
    duplex = "FULL_DUPLEX_STREAMED"
    picking = typed(
        "picker",
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": "picker"}},
        message_timeout="10s",
        processing_mode={
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": duplex,
            "response_body_mode": duplex,
            "request_trailer_mode": "SEND",
            "response_trailer_mode": "SEND",
        },
    )
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "30s"}}
    manager = typed(
        "http",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        stream_idle_timeout="20s",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[picking, typed("router", "extensions.filters.http.router.v3.Router")],
    )
    http2 = {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    }
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [manager]}],
    }
    return {
        "static_resources": {
            "listeners": [listener],
            "clusters": [cluster("servers", server_port), cluster("picker", picker_port, **http2)],
        }
    }


Running = tuple[str, Picker]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    picker = Picker(server.server_address[1])
    picker.start()
    wait_until("the picker to listen", lambda: picker.port)
    port = free_port()
    tmp_path = tmp_path_factory.mktemp("duplex")
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(envoy_config(port, picker.port, server.server_address[1])))
    with (tmp_path / "envoy.log").open("wb") as log:
        command = [str(find_envoy()), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "2"]
        envoy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until("Envoy to listen", lambda: is_listening(port, envoy, tmp_path / "envoy.log"))
            yield f"http://127.0.0.1:{port}", picker
        finally:
            envoy.kill()
            envoy.wait()
            picker.end()
            server.shutdown()
            serving.join(5)
            server.server_close()


def is_listening(port: int, envoy: subprocess.Popen[bytes], log: Path) -> bool:
    assert envoy.poll() is None, log.read_text()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


@pytest.mark.parametrize("size", SIZES)
def test_a_request_arrives_byte_for_byte(running: Running, size: int) -> None:
    url, _ = running
    body = random.Random(size).randbytes(size)
    answer = call(f"{url}/anything", body, headers={"content-type": "application/octet-stream"})
    assert answer.status == 200, answer.body[:300]
    assert answer.json()["sha"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("size", SIZES[:-1])
def test_an_answer_arrives_byte_for_byte(running: Running, size: int) -> None:
    url, _ = running
    answer = call(f"{url}/large", b"x" * size, headers={"content-type": "application/octet-stream"})
    assert answer.body == bytes(range(256)) * (size // 256 + 1)


def test_a_renamed_model_arrives_and_the_answer_has_the_public_name(running: Running) -> None:
    url, picker = running
    body = b'{"model": "public", "prompt": "hi"}'
    answer = call(f"{url}/v1/completions", body, headers={"content-type": "application/json"})
    assert answer.json()["model"] == "public"
    assert answer.json()["sha"] == hashlib.sha256(body.replace(b"public", b"served")).hexdigest()
    stream = call(f"{url}/v1/chat/completions", body.replace(b'"prompt": "hi"', b'"messages": []'))
    assert stream.body == EVENTS.replace(b"served", b"public")
    reports = [one.report for one in picker.told if isinstance(one, Finished)]
    assert (reports[-1].status, reports[-1].is_stream) == (200, True)


def test_a_wish_is_written_into_a_body_that_names_no_model(running: Running) -> None:
    url, _ = running
    headers = {"content-type": "application/json", "x-llm-d-model-name-rewrite": "served"}
    told = call(f"{url}/v1/completions", b' {"prompt": "hi"}', headers=headers).json()
    assert told["sha"] == hashlib.sha256(b' {"model":"served","prompt": "hi"}').hexdigest()
    assert told["model"] == "served"
    assert "x-llm-d-model-name-rewrite" not in told["headers"]


def test_an_emoji_that_was_cut_in_two_arrives_as_it_was(running: Running) -> None:
    url, _ = running
    body = b'{"prompt": "cut \\ud83d", "model": "public"}'
    told = call(f"{url}/v1/completions", body, headers={"content-type": "application/json"}).json()
    assert told["sha"] == hashlib.sha256(body.replace(b"public", b"served")).hexdigest()
    assert told["model"] == "public"


def test_requests_without_a_body_and_with_an_empty_one(running: Running) -> None:
    url, _ = running
    assert call(f"{url}/anything").json()["bytes"] == 0
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10.0) as client:
        client.sendall(b"POST /anything HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_chunked_uploads_with_trailers_arrive(running: Running) -> None:
    url, _ = running
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10.0) as client:
        client.sendall(b"POST /anything HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
        client.sendall(b"3\r\nabc\r\n")
        time.sleep(0.05)
        client.sendall(b"2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_refusals_reach_the_client(running: Running) -> None:
    url, _ = running
    answer = call(f"{url}/v1/chat/completions", b'{"model": "nobody", "messages": []}')
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10.0) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 17000000\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_clients_that_leave_leave_nothing(running: Running) -> None:
    url, picker = running
    host, port = url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), 10.0) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    wait_until("all to be over", lambda: picker.service.counts.open == 0)
    wait_until("nothing to be reserved", lambda: picker.in_flight() == 0)
    assert picker.service.counts.buffered_bytes == 0
    assert picker.service.counts.failures == 0
    assert picker.service.counts.out_of_order == 0
