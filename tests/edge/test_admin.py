"""The admin server over real sockets."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import numpy as np
import pytest

from stellwerk.config import Address
from stellwerk.edge import admin
from stellwerk.edge.admin import MAX_DECISIONS, AdminServer, Views, is_near, is_own_host
from stellwerk.model.trace import Column, Trace
from stellwerk.model.view import EndpointView, PoolsView, PoolView
from tests.kit.loop import on_loop

VIEW = PoolsView(
    generation=3,
    pools=(
        PoolView(
            name="default/llama",
            endpoints=(
                EndpointView(
                    key="default/a:8000",
                    address="10.0.0.1:8000",
                    engine="vllm",
                    health="healthy",
                    health_reason="",
                    waiting=math.nan,
                    running=2.0,
                    kv_use=math.inf,
                    age_seconds=0.5,
                    requests=1,
                    tokens=100,
                    models=("tiny",),
                ),
            ),
            saturation=0.5,
            saturation_cause="queue",
        ),
    ),
)


def trace(number: int, model: str = "food", pool: str = "default/llama") -> Trace:
    scores = cast(Sequence[float], np.array([0.25, math.nan]))  # the engine's columns are arrays
    return Trace(
        request_id=f"request-{number}",
        at=float(number),
        api="chat",
        pool=pool,
        public_model=model,
        target_model=f"{model}-target",
        candidates=("default/a:8000", "default/b:8000"),
        columns=(Column("queue-scorer", 2.0, scores),),
        totals=scores,
        ages_seconds=cast(Sequence[float], np.array([0.1, math.inf])),
        saturation=math.nan,
        picked=("default/a:8000",),
    )


class World:
    """What the server is given to show."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.reasons: list[str] = []
        self.remarks: list[str] = []
        self.view: object = VIEW

    def views(self) -> Views:
        return Views(
            describe=lambda: self.view,
            traces=lambda: self.traces,
            trace=lambda request_id: next((trace for trace in self.traces if trace.request_id == request_id), None),
            unready=lambda: tuple(self.reasons),
            metrics=lambda: iter(["# TYPE a gauge\n", "a 1\n"]),
            remarks=lambda: tuple(self.remarks),
        )


@asynccontextmanager
async def serving(
    world: World, views: Views | None = None, *, is_private: bool = False
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    server = AdminServer(Address(port=0), views or world.views(), is_private=is_private)
    host, port = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://{host}:{port}"
    finally:
        await server.close()


async def get(session: aiohttp.ClientSession, url: str, **arguments: Any) -> tuple[int, Any]:
    async with session.get(url, **arguments) as response:
        assert response.content_type == "application/json"
        return response.status, json.loads(await response.text(), parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@on_loop
async def test_alive_and_ready() -> None:
    world = World()
    async with serving(world) as (session, url):
        assert await get(session, f"{url}/healthz") == (200, {"status": "ok"})
        assert await get(session, f"{url}/readyz") == (200, {"ready": True, "reasons": [], "remarks": []})
        world.reasons = ["no endpoint is ready in pool default/llama", "draining"]
        world.remarks = ["pool.yaml: line 3: unknown field"]
        answer = {"ready": False, "reasons": world.reasons, "remarks": world.remarks}
        assert await get(session, f"{url}/readyz") == (503, answer)


@on_loop
async def test_metrics_are_text_and_never_cached() -> None:
    async with serving(World()) as (session, url), session.get(f"{url}/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert await response.text() == "# TYPE a gauge\na 1\n"


@on_loop
async def test_pools_are_json_in_which_what_is_not_a_number_is_null() -> None:
    async with serving(World()) as (session, url):
        status, answer = await get(session, f"{url}/api/pools")
    assert status == 200
    endpoint = answer["pools"][0]["endpoints"][0]
    assert (endpoint["waiting"], endpoint["running"], endpoint["kv_use"]) == (None, 2.0, None)
    assert endpoint["models"] == ["tiny"]


@on_loop
async def test_decisions_come_newest_first_and_can_be_filtered() -> None:
    world = World()
    world.traces = [trace(number, "food" if number % 2 else "wine", f"default/{number % 3}") for number in range(300)]
    async with serving(world) as (session, url):

        async def ids(query: str) -> list[str]:
            status, answer = await get(session, f"{url}/api/decisions{query}")
            assert status == 200
            return [decision["request_id"] for decision in answer["decisions"]]

        assert await ids("?limit=2") == ["request-299", "request-298"]
        assert len(await ids("")) == 100
        assert await ids("?limit=2&model=wine") == ["request-298", "request-296"]
        assert await ids("?limit=1&model=wine-target&pool=default/0") == ["request-294"]
        assert await ids("?model=unknown") == []
        _, answer = await get(session, f"{url}/api/decisions?limit=1")
    decision = answer["decisions"][0]
    assert decision["columns"][0]["scores"] == [0.25, None]
    assert (decision["ages_seconds"], decision["saturation"]) == ([0.1, None], None)


@pytest.mark.parametrize("limit", ["0", "-1", "x", str(MAX_DECISIONS + 1), "1e2", "", "9" * 5000, "²"])
@on_loop
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    async with serving(World()) as (session, url):
        status, answer = await get(session, f"{url}/api/decisions", params={"limit": limit})
    assert status == 400
    assert str(MAX_DECISIONS) in answer["error"]["message"]


@on_loop
async def test_one_decision_is_found_by_its_request_id() -> None:
    world = World()
    world.traces = [trace(7)]
    async with serving(world) as (session, url):
        status, answer = await get(session, f"{url}/api/decisions/request-7")
        assert (status, answer["picked"]) == (200, ["default/a:8000"])
        status, answer = await get(session, f"{url}/api/decisions/request-8")
        assert status == 404
        assert answer["error"]["message"] == "no decision with request id 'request-8' is remembered"


@on_loop
async def test_unknown_paths_and_methods_are_json_errors() -> None:
    async with serving(World()) as (session, url):
        status, answer = await get(session, f"{url}/nothing?x={'y' * 500}")
        assert (status, answer["error"]["code"]) == (404, 404)
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            async with session.request(method, f"{url}/readyz") as response:
                assert response.status == 405
                assert response.headers["Allow"] == "GET, HEAD"
                assert (await response.json())["error"]["code"] == 405


@on_loop
async def test_bytes_that_are_not_http_are_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(World()) as (session, url):
        host, port = url.removeprefix("http://").split(":")
        for junk in (b"\x16\x03\x01\x02\x00", b"secret / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(junk + b"\r\n\r\n")
            assert (await reader.read(12)).startswith(b"HTTP/1.")
            writer.close()
        assert (await get(session, f"{url}/healthz"))[0] == 200
    assert caplog.text == ""


@on_loop
async def test_head_is_answered_without_a_body() -> None:
    world = World()
    world.traces = [trace(1)]
    async with serving(world) as (session, url):
        for path in (
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/pools",
            "/api/decisions",
            "/api/decisions/request-1",
        ):
            async with session.head(f"{url}{path}") as response:
                assert response.status == 200, path
                assert await response.read() == b""


@on_loop
async def test_the_index_lists_what_there_is() -> None:
    async with serving(World()) as (session, url), session.get(f"{url}/") as response:
        page = await response.text()
        assert response.content_type == "text/html"
        assert all(path in page for path in ("/healthz", "/readyz", "/metrics", "/api/pools", "/api/decisions"))


@on_loop
async def test_a_page_of_a_foreign_name_cannot_read_a_local_server() -> None:
    async with serving(World()) as (session, url):
        status, _ = await get(session, f"{url}/api/pools", headers={"Host": "attacker.example"})
        assert status == 403
        status, _ = await get(session, f"{url}/api/pools", headers={"Host": "localhost:9090"})
        assert status == 200


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        *[
            (host, True)
            for host in ("localhost", "LOCALHOST:9090", "a.localhost", "127.0.0.1", "10.1.2.3:80", "[::1]:9", "[::1]")
        ],
        *[
            (host, False)
            for host in ("attacker.example", "localhost.attacker.example:80", "", "127.0.0.1.nip.io", "[::1")
        ],
    ],
)
def test_only_local_names_and_addresses_are_a_local_servers_own(host: str, is_own: bool) -> None:
    assert is_own_host(host, is_local=True) is is_own
    assert is_own_host(host, is_local=False)


@on_loop
async def test_a_bug_in_a_view_is_a_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.view = object()
    async with serving(world) as (session, url):
        status, answer = await get(session, f"{url}/api/pools")
        assert (status, answer["error"]["message"]) == (500, "internal error; see the log")
        assert (await get(session, f"{url}/healthz"))[0] == 200
    assert "an admin request failed" in caplog.text


@on_loop
async def test_a_long_page_leaves_the_loop_free_in_between() -> None:
    turns = 0
    turns_seen: list[int] = []

    def pieces() -> Iterator[str]:
        for _ in range(50):
            turns_seen.append(turns)
            yield "x" * 70_000

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    world = World()
    views = world.views()
    with_pieces = Views(views.describe, views.traces, views.trace, views.unready, pieces)
    spinner = asyncio.create_task(spin())
    async with serving(world, with_pieces) as (session, url), session.get(f"{url}/metrics") as response:
        assert len(await response.read()) == 50 * 70_000
    spinner.cancel()
    assert len(set(turns_seen)) == 50


@on_loop
async def test_a_client_that_leaves_in_the_middle_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    views = world.views()
    long = Views(views.describe, views.traces, views.trace, views.unready, lambda: iter(["x" * 70_000] * 500))
    async with serving(world, long) as (session, url):
        host, port = url.removeprefix("http://").split(":")
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await writer.drain()
            writer.transport.abort()
        assert (await get(session, f"{url}/healthz"))[0] == 200
    assert "an admin request failed" not in caplog.text


@on_loop
async def test_it_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    server = AdminServer(Address(path=path), World().views())
    assert await server.start() == (path, 0)
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession(connector=connector) as session:
        assert (await get(session, "http://stellwerk/healthz"))[0] == 200
    await server.close()


@on_loop
async def test_a_port_in_use_is_an_os_error() -> None:
    first = AdminServer(Address(port=0), World().views())
    host, port = await first.start()
    second = AdminServer(Address(host=host, port=port), World().views())
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await first.close()


@pytest.mark.parametrize(
    ("peer", "is_allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        (None, True),
        ("", True),
        ("10.0.0.7", False),
        ("fd00::7", False),
        ("::ffff:10.0.0.7", False),
    ],
)
def test_near_is_who_comes_from_the_same_machine(peer: str | None, is_allowed: bool) -> None:
    assert is_near(peer) == is_allowed


@on_loop
async def test_a_private_server_shows_others_health_and_metrics_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(World(), is_private=True) as (session, url):
        assert (await get(session, f"{url}/api/decisions"))[0] == 200
        # As if the caller were another pod.
        monkeypatch.setattr(admin, "is_near", lambda peer: False)
        for path in ("/api/decisions", "/api/decisions/request-1", "/api/pools", "/"):
            status, answer = await get(session, url + path)
            assert status == 403
            assert "port-forward" in answer["error"]["message"]
        for path in ("/healthz", "/readyz", "/metrics"):
            async with session.get(url + path) as found:
                assert found.status == 200, path
