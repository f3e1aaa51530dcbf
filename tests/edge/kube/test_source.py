"""Blueprints out of an API server: what changes, how soon, and what stays while it is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stellwerk.blueprint import Blueprint
from stellwerk.control.kube.resource import MODELS, OBJECTIVES, OLD_OBJECTIVES, OLD_POOLS, PODS, POOLS, Resource
from stellwerk.edge.kube.metrics import families
from stellwerk.edge.kube.pulse import DEFAULT_PULSE, PulsePace
from stellwerk.edge.kube.reflector import ReflectorPace
from stellwerk.edge.kube.source import KubeSource, Scope, SourcePace
from stellwerk.model.picker_config import PickerConfig, PluginSpec
from stellwerk.telemetry.render import text
from tests.kit.kube_api import KubeApi, kube_api, pod
from tests.kit.kube_api import pool as kube_api_pool
from tests.kit.loop import on_loop, until

PACE = SourcePace(
    reflectors=ReflectorPace(
        retry_seconds=0.01,
        retry_unanswered_seconds=0.05,
        retry_refused_seconds=0.05,
        look_again_seconds=0.05,
        gone_seconds=0.3,
        steady_seconds=0.1,
    )
)
LLAMA = Scope.of_pool("default", "llama")


def pool(name: str = "llama", app: str = "llama", ports: tuple[int, ...] = (8000,)) -> dict[str, Any]:
    """An InferencePool v1."""
    return kube_api_pool(name, {"app": app}, ports)


def policy(resource: Resource, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object that refers to the pool."""
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"poolRef": {"name": "llama"}, **spec}}


class Running:
    """A source that runs, and what it applied."""

    def __init__(self, source: KubeSource) -> None:
        self.source = source
        self.applied: list[tuple[float, Blueprint]] = []

    def keys(self, name: str = "default/llama") -> list[str] | None:
        """The endpoints of the pool as last applied; None: there is no such pool."""
        found = self.source.current.catalog.pools.get(name)
        return [endpoint.key for endpoint in found.endpoints] if found is not None else None

    def apply(self, blueprint: Blueprint) -> None:
        self.applied.append((time.monotonic(), blueprint))


@asynccontextmanager
async def running(
    api: KubeApi, scope: Scope = LLAMA, pace: SourcePace = PACE, pulse: PulsePace = DEFAULT_PULSE
) -> AsyncIterator[Running]:
    """A source that is loaded and runs."""
    client = api.client(pulse=pulse)
    it = Running(KubeSource(client, scope, pace=pace))
    await it.source.load()
    task = asyncio.create_task(it.source.run(it.apply))
    try:
        yield it
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@on_loop
async def test_pods_come_and_go_with_their_events() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        async with running(api) as it:
            assert it.keys() == ["default/a:8000"]
            api.put(PODS, pod("b", "10.0.0.2", is_ready=False))
            api.put(PODS, pod("b", "10.0.0.2"))
            await until(lambda: it.keys() == ["default/a:8000", "default/b:8000"])
            api.put(PODS, pod("a", "10.0.0.1", is_terminating=True))
            await until(lambda: it.keys() == ["default/b:8000"])
            api.remove(PODS, "default", "b")
            await until(lambda: it.keys() == [])
            generations = [blueprint.catalog.generation for _, blueprint in it.applied]
            assert generations == sorted(set(generations))


@on_loop
async def test_an_endpoint_that_goes_does_not_wait_for_those_that_come() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        pace = SourcePace(urgent_seconds=0.02, gather_seconds=30.0, reflectors=PACE.reflectors)
        async with running(api, pace=pace) as it:
            api.put(PODS, pod("b", "10.0.0.2"))
            await asyncio.sleep(0.1)
            assert it.keys() == ["default/a:8000"]
            api.remove(PODS, "default", "a")
            await until(lambda: it.keys() == ["default/b:8000"], 5)


@on_loop
async def test_a_burst_becomes_few_blueprints() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        async with running(api) as it:
            for number in range(200):
                api.put(PODS, pod(f"p{number}", f"10.0.1.{number}"))
            await until(lambda: len(it.keys() or ()) == 200)
            assert len(it.applied) <= 10


@on_loop
async def test_what_changes_nothing_is_not_applied() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a"))
        async with running(api) as it:
            api.put(PODS, {**pod("a"), "spec": {"containers": []}})
            api.put(POOLS, {**pool(), "status": {"parents": []}})
            api.put(PODS, pod("z", labels={"app": "other"}))
            await asyncio.sleep(0.3)
            assert it.applied == []


@on_loop
async def test_a_new_selector_never_empties_the_pool() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        api.put(PODS, pod("b", "10.0.0.2", {"app": "new"}))
        async with running(api) as it:
            api.put(POOLS, pool(app="new", ports=(9000,)))
            await until(lambda: it.keys() == ["default/b:9000"])
            assert all(blueprint.catalog.pools["default/llama"].endpoints for _, blueprint in it.applied)
            asked = [query for _, path, query in api.requests if path.endswith("/pods")]
            assert any("labelSelector=app%3Dnew" in query or "labelSelector=app=new" in query for query in asked)
            await until(lambda: len(it.source.reflectors()) == 7)


@on_loop
async def test_of_two_groups_the_newer_holds() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(OLD_OBJECTIVES, policy(OLD_OBJECTIVES, "o", {"priority": 1}))
        api.put(OLD_OBJECTIVES, policy(OLD_OBJECTIVES, "only-old", {"priority": 3}))
        api.put(OBJECTIVES, policy(OBJECTIVES, "o", {"priority": 2}))
        async with running(api) as it:
            assert it.source.current.catalog.pools["default/llama"].objectives == {"o": 2, "only-old": 3}
            api.remove(OBJECTIVES, "default", "o")
            await until(lambda: it.source.current.catalog.pools["default/llama"].objectives["o"] == 1)


@on_loop
async def test_kinds_that_are_not_installed_are_found_when_they_are() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.lies.missing = {str(MODELS), str(OBJECTIVES)}
        async with running(api) as it:
            assert it.source.status.problems == ()
            api.put(MODELS, policy(MODELS, "m", {"modelName": "chat"}))
            api.lies.missing.clear()
            await until(lambda: "chat" in it.source.current.catalog.models)


@on_loop
async def test_a_pool_of_the_old_group_is_found_by_itself() -> None:
    async with kube_api() as api:
        spec = {"selector": {"app": "llama"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
        api.put(OLD_POOLS, {"metadata": {"name": "llama", "namespace": "default"}, "spec": spec})
        api.put(PODS, pod("a"))
        api.lies.missing = {str(POOLS)}
        async with running(api, Scope("default", frozenset({("default", "llama")}))) as it:
            assert it.keys() == ["default/a:8000"]


@on_loop
async def test_a_selector_stands_for_a_pool_where_there_are_none() -> None:
    async with kube_api() as api:
        api.put(PODS, pod("a"))
        scope = Scope.of_selector("default", "mine", "app=llama", (8000, 8001))
        async with running(api, scope) as it:
            assert it.keys("default/mine") == ["default/a:8000", "default/a:8001"]
            assert not any("inferencepools" in path for _, path, _ in api.requests)


@on_loop
async def test_a_gateway_chooses_its_pools() -> None:
    async with kube_api() as api:
        for name in ("one", "two"):
            api.put(POOLS, pool(name, name))
            api.put(PODS, pod(name, "10.0.0.1" if name == "one" else "10.0.0.2", {"app": name}))
        async with running(api, Scope()) as it:
            assert not it.source.current.catalog.pools
            it.source.choose({("default", "one")})
            await until(lambda: it.keys("default/one") == ["default/one:8000"])
            it.source.choose({("default", "two")})
            await until(lambda: it.keys("default/two") == ["default/two:8000"])
            assert it.keys("default/one") is None


@on_loop
async def test_a_gateway_without_any_pools_need_not_know_their_kind() -> None:
    async with kube_api() as api:
        api.lies.missing = {str(POOLS)}
        async with running(api, Scope(pool_resources=(POOLS,))) as it:
            api.lies.missing.clear()
            it.source.choose({("default", "one")})
            api.put(POOLS, pool("one", "one"))
            await until(lambda: it.keys("default/one") == [])


@on_loop
async def test_a_configuration_of_the_picker_goes_along() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        async with running(api) as it:
            other = PickerConfig(feature_gates={"flowControl": True})
            it.source.use(other)
            await until(lambda: it.source.current.picker == other)
            assert it.applied[-1][1].picker == other


@on_loop
async def test_pods_without_an_engine_run_that_of_the_configuration() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        api.put(PODS, pod("b", "10.0.0.2", {"app": "llama", "llm-d.ai/engine-type": "triton"}))
        async with running(api) as it:

            def engines() -> list[str]:
                return [one.engine for one in it.source.current.catalog.pools["default/llama"].endpoints]

            assert engines() == ["vllm", "triton"]
            extractor = PluginSpec("e", "core-metrics-extractor", {"defaultEngine": "sglang"})
            it.source.use(PickerConfig(plugins=(extractor,)))
            await until(lambda: engines() == ["sglang", "triton"])


@on_loop
async def test_while_the_server_is_away_traffic_goes_on_and_the_return_is_noticed_soon() -> None:
    pace = SourcePace()
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        async with running(api, pace=pace) as it:
            await until(lambda: it.source.status.age_seconds == 0.0)
            await api.stop()
            await until(lambda: it.source.status.age_seconds > 1.0)
            assert it.keys() == ["default/a:8000"]
            assert "stays in effect" in str(it.source.status.problems[0])
            api.remove(PODS, "default", "a")
            api.put(PODS, pod("b", "10.0.0.2"))
            api.compact()
            await api.start()
            began = time.monotonic()
            await until(lambda: it.keys() == ["default/b:8000"])
            await until(lambda: it.source.status.age_seconds == 0.0)
            assert time.monotonic() - began < 10
            assert it.source.status.problems == ()


@on_loop
async def test_a_server_that_stands_still_is_told_and_changes_nothing() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a", "10.0.0.1"))
        async with running(api, pulse=PulsePace(quiet_seconds=0.1, answer_seconds=0.1)) as it:
            await until(lambda: it.source.status.age_seconds == 0.0)
            assert not it.source.status.problems
            api.lies.hangs = True
            await until(lambda: it.source.status.age_seconds > 0.5)
            (problem,) = it.source.status.problems
            assert "API server: no answer within 0.1 s" in str(problem)
            assert it.keys() == ["default/a:8000"]
            api.lies.hangs = False
            await until(lambda: it.source.status.problems == ())
            assert it.source.status.age_seconds == 0.0


@on_loop
async def test_loading_waits_for_a_server_that_comes_later() -> None:
    api = KubeApi()
    await api.start()
    await api.stop()
    api.put(POOLS, pool())
    client = api.client()
    source = KubeSource(client, LLAMA, pace=PACE)
    task = asyncio.create_task(source.load())
    await until(lambda: source.status.problems)
    assert "pods" not in str(source.status.waiting_for)
    assert source.status.is_stale
    await api.start()
    blueprint = await task
    assert list(blueprint.catalog.pools) == ["default/llama"]
    assert source.status.waiting_for == ()
    await client.close()
    await api.stop()


@on_loop
async def test_a_bad_object_is_told_and_leaves_the_rest_alone() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(MODELS, policy(MODELS, "bad", {"modelName": "a" * 257}))
        api.put(MODELS, policy(MODELS, "good", {"modelName": "chat"}))
        async with running(api) as it:
            assert list(it.source.current.catalog.models) == ["chat"]
            assert "InferenceModel default/bad" in str(it.source.status.problems[0])
            assert it.source.status.bad == 1


@on_loop
async def test_the_metrics_tell_age_and_counts_by_kind() -> None:
    async with kube_api() as api:
        api.put(POOLS, pool())
        api.put(PODS, pod("a"))
        async with running(api) as it:
            page = "".join(text(families(it.source.reflectors())))
            assert 'stellwerk_kube_objects{resource="pods"} 1\n' in page
            assert 'stellwerk_kube_lists_total{resource="pods"} 1\n' in page
            assert 'stellwerk_kube_age_seconds{resource="inferencepools.inference.networking.k8s.io"}' in page
