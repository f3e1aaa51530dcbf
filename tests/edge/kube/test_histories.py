"""A thousand random lives of a kind, with everything that watches meet: the copy ends up as the objects are."""

import asyncio
from random import Random

import pytest

from stellwerk.control.kube.pods import kept_of_pod
from stellwerk.control.kube.resource import PODS
from stellwerk.edge.kube.reflector import Reflector, ReflectorPace
from tests.kit.kube_api import Event, KubeApi, Lies, pod
from tests.kit.loop import on_loop, until

QUICK = ReflectorPace(
    watch_seconds=0.4,
    retry_seconds=0.005,
    retry_unanswered_seconds=0.02,
    retry_refused_seconds=0.02,
    steady_seconds=0.1,
    doubt_seconds=0.02,
    patience_seconds=0.05,
    gone_seconds=5.0,
    page_size=3,
)
HISTORIES = 1_000
AT_ONCE = 25


class History:
    """One server, one copy, and some forty things that happen to them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.api = KubeApi()
        self.told: dict[tuple[str, str], bool] = {}

    def garbled(self, events: list[Event]) -> list[Event]:
        """Duplicated, reordered, swallowed, and from the past."""
        random = self.random
        kept = [event for event in events if random.random() > 0.15]
        again = [event for event in events if random.random() < 0.2]
        past = self.api._history.get(str(PODS), [])
        told = kept + again + ([random.choice(past)] if past and random.random() < 0.2 else [])
        if random.random() < 0.5:
            random.shuffle(told)
        return told

    def happens(self) -> None:
        """One thing."""
        random, api = self.random, self.api
        name = f"pod-{random.randrange(8)}"
        match random.randrange(15):
            case 0 | 1 | 2 | 3 | 4:
                label = random.choice(["llama", "llama", "llama", "other"])
                ready = random.random() < 0.8
                api.put(PODS, pod(name, f"10.0.0.{random.randrange(1, 200)}", {"app": label}, is_ready=ready))
            case 5 | 6:
                api.remove(PODS, "default", name)
            case 7:
                api.compact()
                api.drop()
            case 8:
                api.drop()
            case 9:
                api.compact()
            case 10:
                api.lies.garble = None if api.lies.garble else self.garbled
            case 11:
                api.lies.list_lag = random.choice([0, 0, 1, 5])
            case 12:
                api.lies.status = random.choice([0, 0, 0, 500, 503, 429, 403, 404, 410])
            case 13:
                api.lies.events_before_drop = random.randrange(3)
            case 14:
                api.lies.watch_status = random.choice([0, 0, 410, 504])

    def is_right(self, copy: Reflector) -> bool:
        """Whether the copy is what is there."""
        there = {
            key: kept_of_pod(value)
            for key, value in self.api.objects(PODS).items()
            if value["metadata"]["labels"] == {"app": "llama"}
        }
        held = {}
        for key, value in copy.objects.items():
            metadata = {name: part for name, part in value["metadata"].items() if name != "resourceVersion"}
            held[key] = {**value, "metadata": metadata}
        return held == there and self.told.keys() == there.keys()

    async def play(self) -> None:
        """All of it; fails if the copy is not right in the end."""
        await self.api.start()
        client = self.api.client()
        copy = Reflector(client, PODS, "default", "app=llama", keep=kept_of_pod, pace=QUICK, chance=self.random)

        def told(keys: object) -> None:
            for key in keys:  # type: ignore[attr-defined]
                if key in copy.objects:
                    self.told[key] = True
                else:
                    self.told.pop(key, None)

        task = asyncio.create_task(copy.run(told))
        try:
            for _ in range(self.random.randrange(10, 50)):
                self.happens()
                if self.random.random() < 0.4:
                    await asyncio.sleep(self.random.random() * 0.01)
            self.api.lies = Lies()
            await until(lambda: self.is_right(copy), 20)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()
            await self.api.stop()


async def play(seeds: range) -> None:
    """Several histories, some at a time; the seed of the first that fails is in the message."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with gate:
            try:
                await History(seed).play()
            except TimeoutError:
                pytest.fail(f"history {seed} never came right")

    await asyncio.gather(*(one(seed) for seed in seeds))


@on_loop
async def test_some_histories_end_as_the_objects_are() -> None:
    await play(range(20))


@pytest.mark.integration
@pytest.mark.timeout(300)
@on_loop
async def test_a_thousand_histories_end_as_the_objects_are() -> None:
    await play(range(HISTORIES))
