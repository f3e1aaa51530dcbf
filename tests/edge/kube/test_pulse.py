"""A server that stands still is noticed, whatever its connections say; one that talks is not asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from stellwerk.control.kube.resource import PODS
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.pulse import Pulse, PulsePace
from stellwerk.edge.kube.reflector import Reflector
from tests.kit.kube_api import kube_api, pod
from tests.kit.loop import on_loop, until

PACE = PulsePace(quiet_seconds=0.1, answer_seconds=0.1)


class Server:
    """What a server does when it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: ApiError | None = None
        self.hangs = False

    async def ask(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.answer is not None:
            raise self.answer


@contextlib.asynccontextmanager
async def beating(*pulses: Pulse) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(pulse.run()) for pulse in pulses]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@on_loop
async def test_a_server_that_stands_still_is_silent_since_it_was_last_heard() -> None:
    server = Server()
    pulse = Pulse(server.ask, PACE)
    async with beating(pulse):
        await until(lambda: server.asked >= 2)
        assert (pulse.error, pulse.silent_seconds) == ("", 0.0)
        server.hangs = True
        await until(lambda: pulse.silent_seconds > 0.2)
        assert pulse.error == "no answer within 0.1 s"
        server.hangs = False
        await until(lambda: not pulse.error)
        assert pulse.silent_seconds == 0.0


@on_loop
async def test_who_talks_is_not_asked() -> None:
    server = Server()
    pulse = Pulse(server.ask, PACE)
    async with beating(pulse):
        for _ in range(40):
            pulse.heard()
            await asyncio.sleep(0.01)
        assert server.asked == 0


@on_loop
async def test_a_server_that_talks_and_does_not_answer_well_is_asked_until_it_does() -> None:
    server = Server()
    server.answer = ApiError(500, "Failed", "etcd")
    pulse = Pulse(server.ask, PACE)
    async with beating(pulse):
        await until(lambda: pulse.error)
        before = server.asked
        while server.asked < before + 3:
            pulse.heard()
            assert pulse.error
            assert pulse.silent_seconds < 0.1
            await asyncio.sleep(0.01)
        server.answer = None
        await until(lambda: not pulse.error)
        assert pulse.silent_seconds == 0.0


@on_loop
async def test_a_refusal_is_an_answer_and_a_failure_is_none() -> None:
    server = Server()
    pulse = Pulse(server.ask, PACE)
    async with beating(pulse):
        for answer in (ApiError(403, "Forbidden", ""), ApiError(404, "NotFound", "")):
            server.answer, before = answer, server.asked
            await until(lambda: server.asked > before + 1)  # noqa: B023
            assert pulse.error == ""
        for failure in (ApiError(500, "Failed", "etcd"), ApiError(0, "Unreachable", "")):
            server.answer = failure
            await until(lambda: pulse.error == str(failure))  # noqa: B023


@on_loop
async def test_a_server_that_fails_at_once_is_not_asked_all_the_time_even_by_two() -> None:
    server = Server()
    server.answer = ApiError(0, "Unreachable", "")
    pulse = Pulse(server.ask, PACE)
    async with beating(pulse), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(beating(pulse))
        await asyncio.sleep(1.0)
        assert 2 <= server.asked <= 13


@on_loop
async def test_an_open_watch_does_not_hide_that_the_server_stands_still() -> None:
    async with kube_api() as api:
        api.put(PODS, pod("a"))
        client = api.client(pulse=PACE)
        reflector = Reflector(client, PODS, "default")
        task = asyncio.create_task(reflector.run(lambda keys: None))
        async with beating(client.pulse):
            await until(lambda: reflector.synced and reflector.age_seconds == 0.0)
            watches = reflector.counts.watches
            api.lies.hangs = True
            await until(lambda: reflector.age_seconds > 0.3)
            assert reflector.counts.watches == watches
            assert len(reflector.objects) == 1
            api.lies.hangs = False
            await until(lambda: reflector.age_seconds == 0.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
