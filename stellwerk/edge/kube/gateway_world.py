"""What an API server says about one Gateway: the objects of its plan, followed through every change.

Only this Gateway is watched, and of the Secrets those that its listeners name, each by its name.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

from stellwerk.control.gateway import kept
from stellwerk.control.gateway.assembly import FIELDS, Assembly
from stellwerk.control.gateway.references import references
from stellwerk.control.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, REFERENCE_GRANTS
from stellwerk.control.gateway.world import World, with_lost_classes
from stellwerk.control.kube.resource import ENDPOINT_SLICES, NAMESPACES, POOLS, SECRETS, SERVICES, Key, Resource
from stellwerk.edge.awaiting import HELD_SECONDS, Awaiting
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.copies import Copies

log = logging.getLogger("stellwerk.kube")

_SETTLE_SECONDS = 0.05
"""From the first news to the world that has it: what changes together is seen together."""
_WAIT_SAID_SECONDS = 10.0


class GatewayWorld:
    """Owner of the copies and of the world. `load` once, then `run`."""

    def __init__(
        self,
        client: KubeClient,
        gateway: Key,
        controller: str,
        namespaces: Sequence[str] = (),
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        """`namespaces`: only these are looked at; none: all. News wait for Secrets that are named with them, so that a
        new listener has its certificate at once, but not for longer than `held_seconds`."""
        self._gateway, self._controller = gateway, controller
        self._assembly = Assembly()
        self._wake = asyncio.Event()
        self._awaiting = Awaiting(self._wake.set, held_seconds)
        self._following: asyncio.Task[None] | None = None
        self.copies = Copies(client, self._on_change)
        follow = self.copies.follow
        self.copies.name(GATEWAYS, [gateway])
        follow(GATEWAY_CLASSES)
        follow(NAMESPACES, keep=kept.labels_only)
        follow(HTTP_ROUTES, namespaces)
        follow(REFERENCE_GRANTS, namespaces)
        follow(POOLS, namespaces, is_optional=True)
        follow(SERVICES, namespaces, kept.service)
        follow(ENDPOINT_SLICES, namespaces, kept.endpoint_slice)

    async def load(self) -> World:
        """Everything for the first time; waits for the API server as long as it takes, and says so."""
        self._following = asyncio.create_task(self.copies.run(), name="copies")
        while waiting := self.copies.unsynced:
            self._expect_following()
            try:
                async with asyncio.timeout(_WAIT_SAID_SECONDS):
                    await self._news()
            except TimeoutError:
                log.warning("waiting for the API server: %s", ", ".join(waiting))
            self._settle()
        self._settle()
        return self._assembly.world

    async def run(self, apply: Callable[[World], None]) -> None:
        """Follow every change until cancelled."""
        is_behind = False
        try:
            while True:
                await self._news()
                self._expect_following()
                is_behind |= self._settle()
                if is_behind and not self._awaiting.is_worth_it(self.copies.unsynced):
                    is_behind = False
                    apply(self._assembly.world)
        finally:
            self._awaiting.close()
            if self._following is not None:
                self._following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._following

    def remarks(self) -> Iterator[str]:
        """What is behind, and what was left out."""
        yield from self.copies.problems
        yield from map(str, self._assembly.problems)

    async def _news(self) -> None:
        await self._wake.wait()
        await asyncio.sleep(_SETTLE_SECONDS)
        self._wake.clear()

    def _expect_following(self) -> None:
        if self._following is not None and self._following.done():
            self._following.result()

    def _settle(self) -> bool:
        """Take in the news; False: there are none. A listener that names another Secret has it followed."""
        is_new = self._assembly.settle()
        if is_new:
            world = with_lost_classes(self._assembly.world, self._controller, ["/".join(self._gateway)])
            self.copies.name(SECRETS, references(world, self._controller).all_secrets, kept.secret)
        return is_new

    def _on_change(self, resource: Resource, keys: Collection[Key]) -> None:
        """The copies keep an object that is no longer followed until the next change: it is gone for us at once."""
        objects = self.copies.objects(resource)
        for key in keys:
            if resource in FIELDS:
                self._assembly.put(resource, key, objects.get(key))
        self._wake.set()
