"""The world of one Gateway out of an API server: every change arrives, whatever becomes of a Secret."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stellwerk.control.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES
from stellwerk.control.gateway.world import World
from stellwerk.control.kube.resource import SECRETS, SERVICES
from stellwerk.edge.kube.gateway_world import GatewayWorld
from tests.kit.gateway_objects import (
    CONTROLLER,
    Object,
    certificate,
    gateway,
    gateway_class,
    listener,
    route,
    rule,
    service,
    tls_secret,
    to_service,
)
from tests.kit.kube_api import KubeApi, kube_api
from tests.kit.loop import on_loop, until

HELD_SECONDS = 0.5


class Following:
    """A world that is followed, and what it handed on."""

    def __init__(self, world: GatewayWorld, first: World) -> None:
        self.world, self.applied = world, [first]

    @property
    def newest(self) -> World:
        return self.applied[-1]

    def listeners(self) -> list[str]:
        """Of the Gateway, as last handed on."""
        return [each.name for each in self.newest.gateways["default/public"].spec.listeners]


@asynccontextmanager
async def followed() -> AsyncIterator[tuple[KubeApi, Following]]:
    """A server with a class, a Gateway and a route to a Service; and their world, loaded."""
    async with kube_api() as api:
        api.put(GATEWAY_CLASSES, gateway_class())
        api.put(GATEWAYS, gateway())
        api.put(SERVICES, service("web"))
        api.put(HTTP_ROUTES, route("first", rule(to_service("web"))))
        client = api.client()
        world = GatewayWorld(client, ("default", "public"), CONTROLLER, held_seconds=HELD_SECONDS)
        it = Following(world, await world.load())
        task = asyncio.create_task(world.run(it.applied.append))
        try:
            yield api, it
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()


def with_certificate(name: str) -> Object:
    """The Gateway with a listener more, for HTTPS with the certificate in Secret `name`."""
    return gateway(listener(), listener("tls", 443, "HTTPS", tls={"certificateRefs": [{"name": name}]}))


@on_loop
async def test_changes_are_handed_on_and_only_the_gateway_that_is_served() -> None:
    async with followed() as (api, it):
        assert it.newest.routes.keys() == {"default/first"}
        api.put(GATEWAYS, gateway(name="other"))
        api.put(HTTP_ROUTES, route("second", rule(to_service("web"))))
        await until(lambda: "default/second" in it.newest.routes)
        assert it.newest.gateways.keys() == {"default/public"}
        api.remove(HTTP_ROUTES, "default", "first")
        await until(lambda: it.newest.routes.keys() == {"default/second"})


@on_loop
async def test_a_new_listener_comes_with_its_certificate() -> None:
    async with followed() as (api, it):
        api.put(SECRETS, tls_secret("cert", *certificate("a.example.com")))
        api.put(GATEWAYS, with_certificate("cert"))
        await until(lambda: "tls" in it.listeners())
        assert all("default/cert" in world.secrets for world in it.applied[1:])


@on_loop
async def test_a_listener_whose_secret_is_missing_holds_back_nothing_for_good() -> None:
    async with followed() as (api, it):
        api.put(GATEWAYS, with_certificate("missing"))
        await until(lambda: it.listeners() == ["http", "tls"])
        api.put(SECRETS, tls_secret("missing", *certificate("a.example.com")))
        await until(lambda: "default/missing" in it.newest.secrets)


@on_loop
async def test_a_secret_that_may_not_be_read_holds_back_nothing_for_good() -> None:
    async with followed() as (api, it):
        api.lies.forbidden.add("secrets")
        api.put(GATEWAYS, with_certificate("hidden"))
        await until(lambda: it.listeners() == ["http", "tls"])


@on_loop
async def test_a_secret_of_which_nothing_is_heard_holds_back_others_once_and_not_for_long() -> None:
    async with followed() as (api, it):
        loop = asyncio.get_running_loop()
        api.lies.silent.add("secrets")
        api.put(GATEWAYS, with_certificate("slow"))
        began = loop.time()
        while it.listeners() == ["http"]:
            # News all the time: they must not put it off.
            api.put(SERVICES, service(f"web-{loop.time()}"))
            await asyncio.sleep(0.05)
            assert loop.time() - began < HELD_SECONDS + 20
        assert loop.time() - began >= HELD_SECONDS - 0.1
        it.world._awaiting.held_seconds = 1000.0
        api.put(HTTP_ROUTES, route("later", rule(to_service("web"))))
        await until(lambda: "default/later" in it.newest.routes)
        api.put(SECRETS, tls_secret("slow", *certificate("a.example.com")))
        api.lies.silent.clear()
        await until(lambda: "default/slow" in it.newest.secrets)


@on_loop
async def test_while_its_class_is_gone_its_secrets_are_followed() -> None:
    async with followed() as (api, it):
        api.put(SECRETS, tls_secret("cert", *certificate("a.example.com")))
        api.put(GATEWAYS, with_certificate("cert"))
        await until(lambda: "default/cert" in it.newest.secrets)
        api.remove(GATEWAY_CLASSES, "", "stellwerk")
        await until(lambda: not it.newest.classes)
        chain, key = certificate("b.example.com")
        api.put(SECRETS, tls_secret("cert", chain, key))
        fresh = base64.b64encode(chain).decode()
        await until(lambda: it.newest.secrets["default/cert"].data["tls.crt"] == fresh)
