"""Servers in one process: ports, faults over time, admin calls."""

import asyncio
import json
from typing import Any

import pytest

from stellwerk.sim.faults import fault
from stellwerk.sim.service import CannotStart, Running, start
from stellwerk.sim.settings import SimSettings
from stellwerk.sim.shape import SPEEDS, Shape, StepTime
from tests.kit.http_client import Answer, call, request
from tests.kit.loop import on_loop, until

pytestmark = pytest.mark.integration
INSTANT = SPEEDS["instant"]
STEPPING = Shape(step=StepTime(base_seconds=0.01))


async def serve(shape: Shape = INSTANT, count: int = 1, **fields: Any) -> Running:
    """Servers on free ports."""
    return await start(SimSettings(shape=shape, count=count, **fields))


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, **fields}


async def ask(running: Running, index: int = 0, **fields: Any) -> Answer:
    """One chat."""
    return await call(running.ports[index], "POST", "/v1/chat/completions", chat(**fields))


def value_of(page: str, name: str) -> float:
    """The first sample of a name."""
    return float(next(line for line in page.splitlines() if line.startswith(name + "{")).rsplit(" ", 1)[1])


async def page_of(running: Running) -> str:
    """The metrics page."""
    return (await call(running.ports[0], "GET", "/metrics")).body.decode()


@on_loop
async def test_the_same_question_gets_the_same_answer_from_every_server() -> None:
    async with await serve(count=3) as running:
        assert len(set(running.ports)) == 3
        answers = [(await ask(running, index)).json()["choices"] for index in range(3)]
    assert answers[0] == answers[1] == answers[2]


@on_loop
async def test_a_taken_port_is_one_clear_error_and_leaves_no_port_open() -> None:
    async with await serve() as running:
        taken = running.ports[0]
        with pytest.raises(CannotStart, match=f"127.0.0.1:{taken}: .*in use.*--port"):
            await start(SimSettings(count=2, port=taken))
    async with await start(SimSettings(port=taken)) as again:
        assert again.ports == (taken,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SimSettings(count=0), "count is 0"),
        (SimSettings(port=65_535, count=2), "65536"),
        (SimSettings(models=()), "no model"),
        (SimSettings(adapters=("tiny",), shape=Shape(max_adapters=1)), "'tiny' is given twice"),
        (SimSettings(adapters=("a",)), "max_adapters is 0"),
        (SimSettings(shape=Shape(block_count=2)), "KV memory holds 32 tokens"),
        (SimSettings(shape=Shape(max_batched_tokens=2)), "max_batched_tokens"),
    ],
)
@on_loop
async def test_impossible_settings_are_named(settings: SimSettings, words: str) -> None:
    with pytest.raises(CannotStart, match=words):
        await start(settings)


@on_loop
async def test_errors_and_delays_hit_requests_and_not_probes() -> None:
    async with await serve() as running:
        running.servers[0].inject(fault("error", 503.0))
        broken = await ask(running)
        assert (broken.status, broken.json()["error"]["code"]) == (503, 503)
        assert (await call(running.ports[0], "GET", "/health")).status == 200
        assert "vllm:" in await page_of(running)
        running.servers[0].heal_all()
        assert (await ask(running)).status == 200


@on_loop
async def test_a_rate_hits_a_share_of_requests() -> None:
    async with await serve() as running:
        running.servers[0].inject(fault("error", rate=0.5))
        statuses = [(await ask(running)).status for _ in range(60)]
    assert 10 < statuses.count(500) < 50
    assert statuses.count(200) + statuses.count(500) == 60


@pytest.mark.parametrize("is_stream", [False, True])
@on_loop
async def test_reset_breaks_the_connection_after_so_many_tokens(is_stream: bool) -> None:
    async with await serve(STEPPING) as running:
        running.servers[0].inject(fault("reset", 3.0))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        writer.write(request("POST", "/v1/chat/completions", json.dumps(chat(stream=is_stream)).encode()))
        got, is_reset = b"", False
        try:
            while data := await reader.read(65_536):
                got += data
        except ConnectionResetError:
            is_reset = True
        writer.close()
        assert is_reset
        assert got.count(b'"delta":{"content":') == (3 if is_stream else 0)
        assert running.servers[0].serving.engine.model.running == 0


@on_loop
async def test_a_hanging_server_accepts_and_never_answers_until_it_is_healed() -> None:
    async with await serve() as running:
        running.servers[0].inject(fault("hang", for_seconds=0.2))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(running.ports[0], "GET", "/health")
        await until(lambda: not running.servers[0].faults)
        assert (await call(running.ports[0], "GET", "/health")).status == 200


@on_loop
async def test_a_wedged_engine_is_healthy_and_its_numbers_stand_still() -> None:
    async with await serve(STEPPING) as running:
        model = running.servers[0].serving.engine.model
        first = asyncio.create_task(ask(running, max_tokens=30, ignore_eos=True))
        await until(lambda: model.counters.generated_tokens > 3)
        running.servers[0].inject(fault("wedge"))
        before = await page_of(running)
        second = asyncio.create_task(ask(running))
        await until(lambda: model.waiting == 1)
        after = await page_of(running)
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens_total"):
            assert value_of(before, name) == value_of(after, name)
        assert value_of(after, "vllm:num_requests_running") == 1
        assert (await call(running.ports[0], "GET", "/health")).status == 200
        assert not first.done()
        running.servers[0].heal_all()
        assert [(await task).status for task in (first, second)] == [200, 200]


@on_loop
async def test_a_slow_engine_is_slow_and_recovers() -> None:
    async with await serve(STEPPING) as running:
        loop = asyncio.get_running_loop()
        running.servers[0].inject(fault("slow", 5.0))
        begun = loop.time()
        await ask(running)
        assert loop.time() - begun > 8 * 0.05 * 0.8
        running.servers[0].heal_all()
        assert running.servers[0].serving.engine.model.slowness == 1.0


@on_loop
async def test_refuse_closes_the_port_and_opens_it_again() -> None:
    async with await serve() as running:
        running.servers[0].inject(fault("refuse"))
        with pytest.raises(ConnectionRefusedError):
            await ask(running)
        running.servers[0].heal_all()
        await until(lambda: running.servers[0].is_listening)
        assert (await ask(running)).status == 200


@on_loop
async def test_a_restart_comes_back_empty_on_the_same_port() -> None:
    async with await serve(adapters=("a",), shape=Shape(max_adapters=2)) as running:
        port = running.ports[0]
        await call(port, "POST", "/v1/load_lora_adapter", {"lora_name": "b", "lora_path": "/b"})
        await ask(running)
        before = await page_of(running)
        started = running.servers[0].serving.engine.started_at
        running.servers[0].inject(fault("restart", 0.05))
        with pytest.raises(ConnectionRefusedError):
            await ask(running)
        await until(lambda: running.servers[0].is_listening)
        after = await page_of(running)
        models = (await call(port, "GET", "/v1/models")).json()["data"]
    assert value_of(before, "vllm:prompt_tokens_total") > value_of(after, "vllm:prompt_tokens_total") == 0
    assert running.servers[0].serving.engine.started_at > started
    assert [one["id"] for one in models] == ["tiny", "a"]


@on_loop
async def test_metrics_pages_break_in_every_way_while_requests_are_served() -> None:
    async with await serve() as running:
        signs = {
            "error": b"Internal Server Error",
            "garbage": b"not a metrics page",
            "nan": b'"} NaN\n',
            "huge": b"huge",
        }
        for kind, sign in signs.items():
            running.servers[0].inject(fault(f"metrics-{kind}"))
            answer = await call(running.ports[0], "GET", "/metrics")
            assert sign in answer.body, kind
            assert answer.status == (500 if kind == "error" else 200)
            assert (len(answer.body) > 99_000_000) is (kind == "huge")
            assert (await ask(running)).status == 200
            running.servers[0].heal_all()
        for kind in ("metrics-hang", "metrics-slow"):
            running.servers[0].inject(fault(kind))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await page_of(running)
            assert (await ask(running)).status == 200
            running.servers[0].heal_all()
        assert "vllm:num_requests_running" in await page_of(running)


@on_loop
async def test_admin_calls_break_and_heal_siblings_and_tell_the_state() -> None:
    async with await serve(count=2) as running:
        port = running.ports[0]
        told = await call(port, "POST", "/sim/fault", {"kind": "error", "value": 503, "server": 1})
        assert told.json()["faults"][0]["kind"] == "error"
        assert ((await ask(running, 0)).status, (await ask(running, 1)).status) == (200, 503)
        assert (await call(running.ports[1], "GET", "/sim/state")).json()["faults"][0]["value"] == 503
        await call(port, "POST", "/sim/heal", {"server": 1})
        assert (await ask(running, 1)).status == 200
        await call(port, "POST", "/sim/fault", {"kind": "slow"})
        assert (await call(port, "POST", "/sim/fault", {"kind": "none"})).json()["faults"] == []
        state = (await call(port, "POST", "/sim/reset")).json()
        assert (state["restarts"], state["counters"]["steps"]) == (1, 0)
        assert (await ask(running)).status == 200


@on_loop
async def test_faults_from_the_start_are_in_force() -> None:
    async with await serve(count=2, faults=((1, fault("error")),)) as running:
        assert ((await ask(running, 0)).status, (await ask(running, 1)).status) == (200, 500)


@on_loop
async def test_stopping_while_requests_run_ends_at_once() -> None:
    async with await serve(STEPPING) as running:
        asking = asyncio.create_task(ask(running, max_tokens=5_000, ignore_eos=True))
        await until(lambda: running.servers[0].serving.engine.model.running == 1)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asking
