"""Real Envoy as the peer: health checks, ext_proc and access logs over one Unix socket."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvloop
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc.health import Health
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Call, Service
from stellwerk.edge.preflight import find_envoy
from tests.kit.processes import free_port

pytestmark = pytest.mark.integration

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
CALLS = 300


class Processor:
    """Lets every message pass, and remembers the sizes of bodies."""

    bodies: list[int]
    encodings: set[bytes]
    """`grpc-encoding` of the calls."""
    open_calls = 0

    def __init__(self, call: Call) -> None:
        self.call = call
        self.encodings.add(dict(call.metadata).get(b"grpc-encoding", b"identity"))
        type(self).open_calls += 1

    def on_message(self, message: bytes) -> None:
        request = ext_proc.ProcessingRequest.FromString(message)
        match request.WhichOneof("request"):
            case "request_headers":
                answer = ext_proc.ProcessingResponse(request_headers=ext_proc.HeadersResponse())
            case "request_body":
                self.bodies.append(len(request.request_body.body))
                answer = ext_proc.ProcessingResponse(request_body=ext_proc.BodyResponse())
            case _:
                answer = ext_proc.ProcessingResponse(response_headers=ext_proc.HeadersResponse())
        self.call.send(answer.SerializeToString())

    def on_half_close(self) -> None:
        self.call.finish()

    def on_closed(self) -> None:
        type(self).open_calls -= 1


class Log:
    """Counts entries."""

    entries = 0

    def __init__(self, call: Call) -> None:
        pass

    def on_message(self, message: bytes) -> None:
        type(self).entries += len(als_pb2.StreamAccessLogsMessage.FromString(message).http_logs.log_entry)

    def on_half_close(self) -> None:
        pass

    def on_closed(self) -> None:
        pass


def typed(kind: str, **fields: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def google_grpc(socket: Path) -> dict[str, object]:
    """A client that compresses, which Envoy's own cannot."""
    gzip = {"grpc.default_compression_algorithm": {"int_value": 2}}
    return {"google_grpc": {"target_uri": f"unix:{socket}", "stat_prefix": "gzip", "channel_args": {"args": gzip}}}


def bootstrap(socket: Path, port: int, admin: Path, service: dict[str, object]) -> dict[str, object]:
    """One listener that answers by itself, after asking the server behind `socket` by `service`."""
    http2 = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}}
    )
    cluster = {
        "name": "picker",
        "type": "STATIC",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "0.1s",
                "no_traffic_interval": "0.1s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": "picker"},
            }
        ],
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}],
        },
    }
    processor = typed(
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service=service,
        message_timeout="10s",
        processing_mode={"request_body_mode": "BUFFERED", "response_header_mode": "SEND"},
    )
    log = typed(
        "extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        common_config={
            "log_name": "log", "grpc_service": service, "transport_api_version": "V3", "buffer_size_bytes": 0
        },
    )  # fmt: skip
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="test",
        access_log=[{"name": "log", "typed_config": log}],
        http_filters=[
            {"name": "ext_proc", "typed_config": processor},
            {"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")},
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
    )
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "per_connection_buffer_limit_bytes": 32 * 1024 * 1024,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


async def until(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not is_so():  # noqa: ASYNC110 - the condition is a counter
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    try:
        async with session.post(url, data=io.BytesIO(body)) as answer:
            return answer.status
    except aiohttp.ClientConnectionError:
        return 0


@asynccontextmanager
async def envoy_asking(
    folder: Path, service: dict[str, object], health: Health
) -> AsyncIterator[tuple[GrpcServer, str]]:
    """A server, and the URL of an Envoy that asks it by `service`."""
    Processor.bodies = []
    Processor.encodings = set()
    Log.entries = 0
    services: dict[str, Service] = {PROCESS: Processor, LOGS: Log, **health.services()}
    server = GrpcServer(services, TransportLimits(ping_interval_seconds=0.5), standing={LOGS})
    await server.listen_unix(str(folder / "picker.sock"))
    port = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(folder / "picker.sock", port, folder / "admin.sock", service)))
    command = [str(find_envoy()), "-c", str(config), "--concurrency", "2", "--use-dynamic-base-id", "-l", "error"]
    quiet = asyncio.subprocess.DEVNULL
    envoy = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        yield server, f"http://127.0.0.1:{port}/"
    finally:
        envoy.terminate()
        await envoy.wait()
        await server.close()


async def ask_until_answered(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(300):
        if await post(session, url, b"first") == 200:
            return
        await asyncio.sleep(0.05)


async def assert_at_peace(server: GrpcServer, entries: int) -> None:
    """Every call has ended well, and `entries` requests or more were reported."""
    await until(lambda: Processor.open_calls == 0, "the end of every call")
    await until(lambda: Log.entries >= entries, "the access log")
    assert server.counters.protocol_errors == server.counters.floods_refused == server.counters.calls_refused == 0
    assert server.counters.handler_errors == server.counters.connections_reaped == 0
    await asyncio.wait_for(server.drain(60), 10)


async def converse(folder: Path) -> None:
    health = Health()
    async with (
        envoy_asking(folder, {"envoy_grpc": {"cluster_name": "picker"}}, health) as (server, url),
        aiohttp.ClientSession() as session,
    ):
        health.set("picker", False)
        await until(lambda: server.counters.messages_received > 3, "Envoy's health checks")
        assert await post(session, url, b"x") in (0, 500, 503)
        assert Processor.bodies == []
        health.set("picker", True)
        await ask_until_answered(session, url)
        sizes = [1 + number * number for number in range(CALLS)]
        sizes += [4 * 1024 * 1024, 16 * 1024 * 1024]
        statuses = await asyncio.gather(*(post(session, url, bytes(size)) for size in sizes))
        assert statuses == [200] * len(sizes)
        assert sorted(Processor.bodies[1:]) == sorted(sizes)
        assert Processor.encodings == {b"identity"}
        await assert_at_peace(server, CALLS + 3)


async def converse_compressed(folder: Path) -> None:
    health = Health()
    health.set("picker", True)
    async with (
        envoy_asking(folder, google_grpc(folder / "picker.sock"), health) as (server, url),
        aiohttp.ClientSession() as session,
    ):
        await ask_until_answered(session, url)
        sizes = [1 + number * number for number in range(100)] + [5 * 1024 * 1024, 16 * 1024 * 1024]
        statuses = await asyncio.gather(*(post(session, url, bytes(size)) for size in sizes))
        assert statuses == [200] * len(sizes)
        assert sorted(Processor.bodies[-len(sizes) :]) == sorted(sizes)
        assert Processor.encodings == {b"gzip"}
        await assert_at_peace(server, len(sizes))


def run(main: Coroutine[None, None, None]) -> None:
    """On uvloop, as the gateway does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def test_envoy_checks_asks_and_reports_over_one_socket(tmp_path: Path) -> None:
    run(converse(tmp_path))


def test_an_envoy_that_compresses_its_questions_is_answered(tmp_path: Path) -> None:
    run(converse_compressed(tmp_path))
