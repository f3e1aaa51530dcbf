"""A gateway pod's objects: when a plan takes effect, and what it waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stellwerk.app.in_cluster import ClusterSource
from stellwerk.app.routed import Router
from stellwerk.app.running import files_of
from stellwerk.blueprint import Blueprint
from stellwerk.config import Config, OwnGateway
from stellwerk.control.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES
from stellwerk.control.kube.resource import PODS, POOLS, SERVICES
from stellwerk.edge.kube.gateway_world import GatewayWorld
from stellwerk.edge.kube.source import KubeSource, Scope
from tests.kit.gateway_objects import (
    CONTROLLER,
    Object,
    gateway,
    gateway_class,
    pool,
    route,
    rule,
    service,
    to_pool,
    to_service,
)
from tests.kit.kube_api import KubeApi, kube_api, pod
from tests.kit.loop import on_loop, until

UNREADABLE = pool("bad", annotations={"Example.COM/owner": "x"})
"""For routes it is a pool; the picker refuses the annotation."""
FOREVER = 1000.0


class Running:
    """A router that runs, and what it applied."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.applied: list[Blueprint] = []

    def routes(self) -> set[str]:
        """In effect."""
        planned = self.router.planned
        hosts = [host for each in planned.listeners for host in each.hosts] if planned is not None else []
        return {entry.rule.name.split("/")[1] for host in hosts for entry in host.entries}


@asynccontextmanager
async def running(
    held_seconds: float = FOREVER,
    config: Config = Config(),  # noqa: B008 - frozen
) -> AsyncIterator[tuple[KubeApi, Running]]:
    """A server with a Gateway, the route `web` to a Service, and a router that serves it."""
    async with kube_api() as api:
        api.put(GATEWAY_CLASSES, gateway_class())
        api.put(GATEWAYS, gateway())
        api.put(SERVICES, service("web"))
        api.put(HTTP_ROUTES, route("web", rule(to_service("web"))))
        client = api.client()
        worlds = GatewayWorld(client, ("default", "public"), CONTROLLER)
        pools = ClusterSource(KubeSource(client, Scope(pool_resources=(POOLS,))), files_of(config))
        it = Running(Router(OwnGateway("default/public"), worlds, pools, held_seconds))
        async with asyncio.timeout(20):
            await it.router.load()
        task = asyncio.create_task(it.router.run(it.applied.append))
        try:
            yield api, it
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()


def put_pool(api: KubeApi, name: str, value: Object | None = None) -> None:
    """The pool and a route to it, both called `name`."""
    api.put(POOLS, value or pool(name))
    api.put(HTTP_ROUTES, route(name, rule(to_pool(name), path=f"/{name}")))


@on_loop
async def test_a_route_to_a_new_pool_takes_effect_with_the_pools_pods() -> None:
    async with running() as (api, it):
        api.put(PODS, pod("a", labels={"app": "llama"}))
        api.lies.silent.add("pods")
        put_pool(api, "llama")
        api.put(HTTP_ROUTES, route("other", rule(to_service("web"), path="/other")))
        await until(lambda: any("pods" in path for _, path, _ in api.requests))
        await asyncio.sleep(0.3)
        assert it.routes() == {"web"}
        api.lies.silent.clear()
        await until(lambda: it.routes() == {"web", "llama", "other"})
        assert [each.key for each in it.applied[-1].catalog.pools["default/llama"].endpoints]


@on_loop
async def test_a_pool_of_which_nothing_is_heard_holds_back_others_once_and_not_for_long() -> None:
    async with running(held_seconds=0.5) as (api, it):
        api.lies.silent.add("pods")
        put_pool(api, "slow")
        async with asyncio.timeout(20):
            count = 0
            while "slow" not in it.routes():
                # News all the time: they must not put it off.
                count += 1
                api.put(SERVICES, service(f"web-{count}"))
                await asyncio.sleep(0.05)
        it.router._awaiting.held_seconds = FOREVER
        api.put(HTTP_ROUTES, route("later", rule(to_service("web"), path="/later")))
        await until(lambda: "later" in it.routes())


@on_loop
async def test_a_pool_that_cannot_be_read_is_not_waited_for() -> None:
    async with running() as (api, it):
        api.put(POOLS, UNREADABLE)
        await asyncio.sleep(0.2)
        put_pool(api, "bad", UNREADABLE)
        await until(lambda: it.routes() == {"web", "bad"})
        assert "default/bad" not in it.router.catalog.pools


@on_loop
async def test_a_class_that_is_gone_takes_no_traffic_along_and_changes_go_on() -> None:
    async with running() as (api, it):
        api.remove(GATEWAY_CLASSES, "", "stellwerk")
        api.put(HTTP_ROUTES, route("later", rule(to_service("web"), path="/later")))
        await until(lambda: it.routes() == {"web", "later"})
        assert not list(it.router.unready())


@on_loop
async def test_a_class_of_somebody_else_is_the_end() -> None:
    async with running() as (api, it):
        api.put(GATEWAY_CLASSES, gateway_class(controller="example.com/other"))
        await until(lambda: it.router.planned is None)
        assert list(it.router.unready())


@on_loop
async def test_the_pickers_configuration_comes_with_the_command_line() -> None:
    text = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [{type: queue-scorer}]}"
    async with running(config=Config(picker_text=text)) as (api, it):
        put_pool(api, "llama")
        await until(lambda: "llama" in it.routes())
        assert [each.type for each in it.applied[-1].picker.plugins] == ["queue-scorer"]


@on_loop
async def test_a_gateway_that_is_gone_is_served_no_more() -> None:
    async with running() as (api, it):
        assert not list(it.router.unready())
        api.remove(GATEWAYS, "default", "public")
        await until(lambda: it.router.planned is None)
        (reason,) = it.router.unready()
        assert "no Gateway default/public" in reason
