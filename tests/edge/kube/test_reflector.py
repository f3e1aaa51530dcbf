"""One fault at a time: what a copy does about it, and what it does not."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from stellwerk.control.kube.resource import MODELS, PODS, Key, Resource
from stellwerk.edge.kube.client import ClientLimits
from stellwerk.edge.kube.reflector import MAX_UNOPENED, Reflector, ReflectorPace
from tests.kit.kube_api import KubeApi, kube_api, pod
from tests.kit.loop import on_loop, until

PATIENT = ReflectorPace(
    watch_seconds=600,
    retry_seconds=0.01,
    retry_unanswered_seconds=0.05,
    retry_refused_seconds=0.05,
    steady_seconds=0.1,
    doubt_seconds=0.3,
    look_again_seconds=0.05,
    patience_seconds=0.3,
    gone_seconds=0.3,
    page_size=2,
)
LIMITS = ClientLimits(connect_seconds=0.5, answer_seconds=0.5, watch_start_seconds=0.5, idle_seconds=30.0)


class Followed:
    """A reflector that runs, and everything it told."""

    def __init__(self, reflector: Reflector) -> None:
        self.reflector = reflector
        self.told: list[frozenset[Key]] = []

    def names(self) -> list[str]:
        return sorted(name for _, name in self.reflector.objects)

    def on_change(self, keys: Collection[Key]) -> None:
        self.told.append(frozenset(keys))


@asynccontextmanager
async def following(
    api: KubeApi,
    resource: Resource = PODS,
    pace: ReflectorPace = PATIENT,
    is_optional: bool = False,
    limits: ClientLimits = LIMITS,
    waits: bool = True,
) -> AsyncIterator[Followed]:
    """A reflector of pods that has its first list."""
    client = api.client(limits=limits)
    followed = Followed(Reflector(client, resource, "default", is_optional=is_optional, pace=pace))
    task = asyncio.create_task(followed.reflector.run(followed.on_change))
    try:
        if waits:
            await followed.reflector.wait_synced()
        yield followed
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@on_loop
async def test_all_pages_make_one_list_and_one_telling() -> None:
    async with kube_api() as api:
        for number in range(7):
            api.put(PODS, pod(f"p{number}"))
        async with following(api) as it:
            assert len(it.names()) == 7
            assert len(it.told) == 1
            assert sum("continue=" in query for _, _, query in api.requests) == 3


@on_loop
async def test_an_empty_first_list_is_told_too() -> None:
    async with kube_api() as api, following(api) as it:
        assert it.told == [frozenset()]
        assert it.reflector.synced


@on_loop
async def test_events_are_followed_without_listing_again() -> None:
    async with kube_api() as api, following(api) as it:
        api.put(PODS, pod("a"))
        await until(lambda: it.names() == ["a"])
        api.remove(PODS, "default", "a")
        await until(lambda: it.names() == [])
        assert it.reflector.counts.lists == 1
        assert it.reflector.age_seconds == 0.0


@on_loop
async def test_a_dropped_connection_goes_on_where_it_was() -> None:
    async with kube_api() as api, following(api) as it:
        api.put(PODS, pod("a"))
        await until(lambda: it.names() == ["a"])
        api.lies.events_before_drop = 0
        api.put(PODS, pod("b"))
        api.put(PODS, pod("c"))
        await until(lambda: it.names() == ["a", "b", "c"])
        assert it.reflector.counts.lists == 1
        assert it.reflector.counts.watches == 2


@on_loop
async def test_a_version_that_the_server_forgot_is_listed_anew() -> None:
    async with kube_api() as api, following(api) as it:
        api.put(PODS, pod("a"))
        await until(lambda: it.names() == ["a"])
        api.lies.watch_status = 503
        api.drop()
        api.remove(PODS, "default", "a")
        api.bump()
        api.compact()
        api.lies.watch_status = 0
        await until(lambda: it.names() == [])
        await until(lambda: it.reflector.error == "")


@on_loop
async def test_what_a_watch_swallowed_is_found_when_its_time_is_over() -> None:
    pace = ReflectorPace(watch_seconds=0.6, retry_seconds=0.01)
    async with kube_api() as api, following(api, pace=pace) as it:
        api.lies.garble = lambda events: []
        api.put(PODS, pod("a"))
        await until(lambda: it.reflector.counts.lists >= 2)
        await until(lambda: it.names() == ["a"])


@on_loop
async def test_events_out_of_order_lead_to_a_list() -> None:
    async with kube_api() as api, following(api) as it:
        api.lies.garble = lambda events: events[::-1]
        api.put(PODS, pod("a"))
        api.put(PODS, pod("b"))
        await until(lambda: it.reflector.counts.lists == 2)
        assert it.names() == ["a", "b"]


@on_loop
async def test_a_server_that_always_shuffles_is_not_listed_all_the_time() -> None:
    async with kube_api() as api, following(api) as it:
        api.lies.garble = lambda events: events[::-1]
        for number in range(60):
            api.put(PODS, pod(f"p{number % 5}", f"10.0.0.{number + 1}"))
            api.put(PODS, pod(f"q{number % 5}", f"10.0.1.{number + 1}"))
            await asyncio.sleep(0.005)
        assert it.reflector.counts.lists <= 2


@on_loop
async def test_an_older_list_is_refused_and_then_believed() -> None:
    async with kube_api() as api, following(api) as it:
        api.put(PODS, pod("a"))
        await until(lambda: it.names() == ["a"])
        api.lies.list_lag = 3
        api.lies.watch_status = 410
        api.drop()
        await until(lambda: it.reflector.counts.stale_lists > 2)
        assert it.names() == ["a"]
        assert "older than" in it.reflector.error
        await until(lambda: it.names() == [])
        api.lies.list_lag = api.lies.watch_status = 0
        await until(lambda: it.names() == ["a"])


@on_loop
async def test_while_the_server_is_gone_the_state_stays_and_its_age_grows() -> None:
    async with kube_api() as api, following(api) as it:
        api.put(PODS, pod("a"))
        await until(lambda: it.names() == ["a"])
        await api.stop()
        await until(lambda: it.reflector.age_seconds > 0.2 and "Unreachable" in it.reflector.error)
        assert it.names() == ["a"]
        api.remove(PODS, "default", "a")
        api.put(PODS, pod("b"))
        await api.start()
        await until(lambda: it.names() == ["b"])
        await until(lambda: it.reflector.age_seconds == 0.0)
        assert it.reflector.error == ""


@on_loop
async def test_a_server_that_hangs_is_given_up_and_asked_again() -> None:
    async with kube_api() as api:
        api.lies.hangs = True
        async with following(api, waits=False) as it:
            await until(lambda: "took too long" in it.reflector.error)
            assert not it.reflector.synced
            api.lies.hangs = False
            await until(lambda: it.reflector.synced)


@on_loop
async def test_watches_that_never_begin_are_replaced_by_lists_at_a_slow_pace() -> None:
    pace = ReflectorPace(retry_seconds=0.01, retry_unanswered_seconds=0.02, retry_refused_seconds=0.5)
    limits = ClientLimits(watch_start_seconds=0.05)
    async with kube_api() as api:
        api.lies.watch_hangs = True
        async with following(api, pace=pace, limits=limits) as it:
            for number in range(2):
                api.put(PODS, pod(f"p{number}"))
                await until(lambda: f"p{number}" in it.names())  # noqa: B023
            assert "took too long" in it.reflector.error
            assert it.reflector.counts.lists <= 4
            assert it.reflector.counts.watches >= MAX_UNOPENED
            api.lies.watch_hangs = False
            await until(lambda: it.reflector.error == "")


@on_loop
async def test_a_short_silence_costs_no_list() -> None:
    limits = ClientLimits(connect_seconds=0.05, answer_seconds=0.05, watch_start_seconds=0.05)
    pace = ReflectorPace(retry_seconds=0.01, retry_unanswered_seconds=0.02, retry_refused_seconds=15.0)
    async with kube_api() as api, following(api, pace=pace, limits=limits) as it:
        api.lies.hangs = True
        api.drop()
        await until(lambda: it.reflector.counts.errors > 2 * MAX_UNOPENED)
        api.put(PODS, pod("a"))
        api.lies.hangs = False
        await until(lambda: it.names() == ["a"])
        assert it.reflector.counts.lists == 1


@on_loop
async def test_lists_that_are_no_good_are_asked_for_more_and_more_slowly() -> None:
    pace = ReflectorPace(retry_seconds=0.02, retry_unanswered_seconds=0.02, retry_refused_seconds=10.0)
    async with kube_api() as api:
        api.lies.spoils_lists = True
        async with following(api, pace=pace, waits=False) as it:
            await asyncio.sleep(1.0)
            assert 3 <= len(api.requests) <= 8
            assert "no object" in it.reflector.error


@on_loop
async def test_events_are_bounded_as_lists_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stellwerk.edge.kube.reflector.MAX_OBJECTS", 5)
    pace = ReflectorPace(retry_seconds=0.02, retry_unanswered_seconds=0.02, retry_refused_seconds=0.1)
    async with kube_api() as api, following(api, pace=pace) as it:
        for number in range(20):
            api.put(PODS, pod(f"p{number}"))
        await until(lambda: "there are more than 5 pods" in it.reflector.error)
        assert len(it.names()) == 6
        lists = it.reflector.counts.lists
        await until(lambda: it.reflector.counts.lists > lists + 2)
        assert len(it.names()) == 6
        for number in range(16):
            api.remove(PODS, "default", f"p{number}")
        await until(lambda: it.names() == ["p16", "p17", "p18", "p19"])
        await until(lambda: it.reflector.error == "")


@on_loop
async def test_a_silent_watch_is_given_up() -> None:
    limits = ClientLimits(idle_seconds=0.1)
    async with kube_api() as api, following(api, limits=limits) as it:
        await until(lambda: it.reflector.counts.watches >= 3)
        assert it.reflector.counts.lists == 1


@on_loop
async def test_errors_are_answered_with_longer_and_longer_pauses() -> None:
    pace = ReflectorPace(retry_seconds=0.02, retry_refused_seconds=10.0)
    async with kube_api() as api:
        api.lies.status = 500
        async with following(api, pace=pace, waits=False):
            await asyncio.sleep(1.0)
            assert 3 <= len(api.requests) <= 8


@on_loop
async def test_lists_that_are_allowed_without_watches_are_a_slow_poll() -> None:
    pace = ReflectorPace(retry_seconds=0.02, retry_refused_seconds=0.3)
    async with kube_api() as api:
        api.lies.watch_status = 403
        async with following(api, pace=pace) as it:
            api.put(PODS, pod("a"))
            await until(lambda: it.names() == ["a"])
            assert it.reflector.counts.lists <= 4
            assert "403" in it.reflector.error


@on_loop
async def test_a_watch_that_ends_at_once_is_no_hot_loop() -> None:
    pace = ReflectorPace(retry_seconds=0.1)
    async with kube_api() as api, following(api, pace=pace) as it:
        for _ in range(20):
            api.drop()
            await asyncio.sleep(0.02)
        assert it.reflector.counts.watches < 12


@on_loop
async def test_a_kind_that_is_not_installed_counts_as_empty_and_is_found_later() -> None:
    async with kube_api() as api:
        api.lies.missing = {str(MODELS)}
        async with following(api, MODELS, is_optional=True) as it:
            assert not it.reflector.is_installed
            assert it.reflector.error == ""
            assert it.reflector.age_seconds == 0.0
            api.put(MODELS, {"metadata": {"name": "m", "namespace": "default"}, "spec": {}})
            api.lies.missing.clear()
            await until(lambda: it.names() == ["m"])
            assert it.reflector.is_installed


@on_loop
async def test_a_kind_that_vanishes_is_believed_gone_after_a_while_only() -> None:
    async with kube_api() as api:
        api.put(MODELS, {"metadata": {"name": "m", "namespace": "default"}, "spec": {}})
        async with following(api, MODELS, is_optional=True) as it:
            api.lies.missing = {str(MODELS)}
            api.drop()
            await until(lambda: it.reflector.error != "")
            await asyncio.sleep(0.1)
            assert it.names() == ["m"]
            await until(lambda: it.names() == [])


@on_loop
async def test_rights_that_are_taken_away_change_nothing_but_the_error() -> None:
    async with kube_api() as api:
        api.put(MODELS, {"metadata": {"name": "m", "namespace": "default"}, "spec": {}})
        async with following(api, MODELS, is_optional=True) as it:
            api.lies.status = 403
            api.drop()
            await until(lambda: "403" in it.reflector.error)
            await asyncio.sleep(0.5)
            assert it.names() == ["m"]


@on_loop
async def test_run_goes_on_where_it_was_cancelled() -> None:
    async with kube_api() as api:
        api.put(PODS, pod("a"))
        client = api.client()
        reflector = Reflector(client, PODS, "default", pace=PATIENT)
        for expected in (["a"], ["a", "b"]):
            task = asyncio.create_task(reflector.run(lambda keys: None))
            await until(lambda: sorted(name for _, name in reflector.objects) == expected)  # noqa: B023
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            api.put(PODS, pod("b"))
        assert reflector.counts.lists == 1
        await client.close()
