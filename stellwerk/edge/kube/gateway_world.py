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
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.copies import Copies

log = logging.getLogger("stellwerk.kube")

_SETTLE_SECONDS = 0.05
"""From the first news to the world that has it: what changes together is seen together."""
HELD_SECONDS = 3.0
"""So long news wait for Secrets that were named with them: a new listener should have its certificate at once, and no
Secret that cannot be read may keep everything else from being served."""
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
        """`namespaces`: only these are looked at; none: all."""
        self._gateway, self._controller, self._held_seconds = gateway, controller, held_seconds
        self._assembly = Assembly()
        self._named: frozenset[Key] = frozenset()
        """Secrets that are followed."""
        self._due: float | None = None
        """By when the world must be handed on, in the loop's time; None: nobody waits for it."""
        self._wake = asyncio.Event()
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
        self._due = None
        return self._assembly.world

    async def run(self, apply: Callable[[World], None]) -> None:
        """Follow every change until cancelled."""
        try:
            while True:
                await self._news(self._due)
                self._expect_following()
                self._settle()
                if self._due is not None and (not self.copies.unsynced or self._now() >= self._due):
                    self._due = None
                    apply(self._assembly.world)
        finally:
            if self._following is not None:
                self._following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._following

    def remarks(self) -> Iterator[str]:
        """What is behind, and what was left out."""
        yield from self.copies.problems
        yield from map(str, self._assembly.problems)

    async def _news(self, until: float | None = None) -> None:
        """What came, gathered; or nothing, at the time `until`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
                await asyncio.sleep(_SETTLE_SECONDS)
        self._wake.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _expect_following(self) -> None:
        if self._following is not None and self._following.done():
            self._following.result()

    def _settle(self) -> None:
        """Take in the news. A listener that names another Secret has it followed, and is waited for; the world is due
        from the first of the news on that it is held back for, so that more of them cannot hold it back for longer."""
        if not self._assembly.settle():
            return
        world = with_lost_classes(self._assembly.world, self._controller, ["/".join(self._gateway)])
        named = references(world, self._controller).all_secrets
        held_seconds = self._held_seconds if named - self._named else 0.0
        self._named = named
        self.copies.name(SECRETS, named, kept.secret)
        if self._due is None:
            self._due = self._now() + held_seconds

    def _on_change(self, resource: Resource, keys: Collection[Key]) -> None:
        """The copies keep an object that is no longer followed until the next change: it is gone for us at once."""
        objects = self.copies.objects(resource)
        for key in keys:
            if resource in FIELDS:
                self._assembly.put(resource, key, objects.get(key))
        self._wake.set()
