"""The objects as an API server has them, followed through every change: the same Blueprints that files give.

`load` once, then `run`. Each kind has a Reflector, each set of Pods that a pool selects another; `control.kube.world`
puts together what they know. While the API server is slow, gone or lying the last state stays in effect, and `status`
says how old it is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from stellwerk.blueprint import Blueprint, Draft, build
from stellwerk.control.changes import changes
from stellwerk.control.kube.pods import kept_of_pod
from stellwerk.control.kube.resource import PODS, POLICY_RESOURCES, POOL_RESOURCES, POOLS, Key, Resource
from stellwerk.control.kube.world import Selection, World, pool_of_flags
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.following import Gathering, Status
from stellwerk.edge.kube.pulse import Pulse
from stellwerk.edge.kube.reflector import DEFAULT_PACE, OnChange, Reflector, ReflectorPace
from stellwerk.model.picker_config import PickerConfig

log = logging.getLogger("stellwerk.kube")

MAX_LOGGED = 20
_WAIT_SAID_SECONDS = 10.0


class Scope(Struct, frozen=True):
    """Which pools matter. One of: `pools` by name, or `selector` and `ports` without any InferencePool."""

    namespace: str | None = None
    """Where all of them are; None: in several namespaces."""
    pools: frozenset[Key] = frozenset()
    """Namespace and name. More may come by `KubeSource.choose`."""
    pool_resources: tuple[Resource, ...] = POOL_RESOURCES
    """Groups and versions in which pools are looked for."""
    selector: str = ""
    """Of Pods, as an API server takes it."""
    ports: tuple[int, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Where to look for those of several namespaces; none: across the cluster."""

    @staticmethod
    def of_pool(namespace: str, name: str, resource: Resource = POOLS) -> "Scope":
        """One InferencePool, as a picker behind a gateway has it."""
        return Scope(namespace, frozenset({(namespace, name)}), (resource,))

    @staticmethod
    def of_selector(namespace: str, name: str, selector: str, ports: Iterable[int]) -> "Scope":
        """Pods that `selector` matches as a pool of that name, without an InferencePool."""
        return Scope(namespace, frozenset({(namespace, name)}), (), selector, tuple(ports))


class SourcePace(Struct, frozen=True):
    """How changes are gathered, in seconds."""

    urgent_seconds: float = 0.02
    """From the news that an endpoint is gone or different to the Blueprint without it."""
    gather_seconds: float = 0.1
    """The same for everything else: many Pods often become ready together."""
    share: float = 0.3
    """Of the CPU time that building may take at most, before it is worth to wait longer."""
    reflectors: ReflectorPace = DEFAULT_PACE


DEFAULT_SOURCE_PACE = SourcePace()


class KubeSource:
    """Pools, their Pods and their policies as one Blueprint after another. Owner of the reflectors and the World."""

    def __init__(
        self,
        client: KubeClient,
        scope: Scope,
        picker: PickerConfig = PickerConfig(),  # noqa: B008 - frozen
        pace: SourcePace = DEFAULT_SOURCE_PACE,
    ) -> None:
        self.status = Status(self.reflectors, client.pulse)
        self.current = Blueprint(build(Draft(), {}).catalog, picker)
        self._client, self._scope, self._pace, self._picker = client, scope, pace, picker
        self._world = World(scope.pools)
        self._kinds = [
            (resource, self._reflector(resource, place))
            for resource in (*scope.pool_resources, *POLICY_RESOURCES)
            for place in (scope.namespaces if scope.namespace is None and scope.namespaces else (scope.namespace,))
        ]
        self._pods: dict[Selection, Reflector] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Reflector | Pulse, asyncio.Task[None]] = {}
        self._known: frozenset[Selection] = frozenset()
        """Pods that were listed when the current Blueprint was built."""
        self._gathering = Gathering(pace.share)
        if scope.selector:
            for namespace, name in scope.pools:
                self._world.add(pool_of_flags(namespace, name, scope.selector, scope.ports))

    def reflectors(self) -> tuple[Reflector, ...]:
        """All watches, for metrics."""
        return (*(reflector for _, reflector in self._kinds), *self._pods.values())

    @property
    def unreadable(self) -> frozenset[str]:
        """Full names of chosen pools that will not come as they are: `status.problems` says why."""
        return self._world.unreadable()

    def choose(self, pools: Collection[Key]) -> None:
        """From here on these pools matter (a gateway's routes changed)."""
        self._world.choose(pools)
        self._gathering.soon(self._pace.urgent_seconds)

    def use(self, picker: PickerConfig) -> None:
        """From here on this configuration of the picker holds; it has been checked."""
        if picker != self._picker:
            self._picker = picker
            self._gathering.soon(self._pace.urgent_seconds)

    async def load(self) -> Blueprint:
        """Everything for the first time; waits for the API server as long as it takes, and says so."""
        async with asyncio.TaskGroup() as group:
            self._start(group)
            try:
                await self._everything()
            finally:
                self._stop()
        self._rebuild()
        return self.current

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow every change until cancelled; `apply` gets every Blueprint that differs from the one before."""
        async with asyncio.TaskGroup() as group:
            self._start(group)
            try:
                while True:
                    await self._gathering.due()
                    before = self.current
                    self._rebuild()
                    if self.current is not before:
                        apply(self.current)
                    self._gathering.done()
            finally:
                self._stop()

    def _reflector(self, resource: Resource, namespace: str | None) -> Reflector:
        """Of a pool or policy kind. One pool by name is watched by its name: that needs no more rights."""
        scope = self._scope
        is_pool = resource in POOL_RESOURCES
        names = [name for _, name in scope.pools]
        by_name = f"metadata.name={names[0]}" if is_pool and scope.namespace and len(names) == 1 else None
        is_optional = not is_pool or len(scope.pool_resources) > 1 or scope.namespace is None
        pace = self._pace.reflectors
        return Reflector(self._client, resource, namespace, None, by_name, is_optional=is_optional, pace=pace)

    def _start(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks[self._client.pulse] = group.create_task(self._client.pulse.run(), name="pulse")
        for resource, reflector in self._kinds:
            self._follow(reflector, partial(self._kind_changed, resource, reflector))
        for selection, reflector in self._pods.items():
            self._follow(reflector, partial(self._pods_changed, selection, reflector))
        self._follow_pods()

    def _follow(self, reflector: Reflector, told: OnChange) -> None:
        if self._group is not None:
            self._tasks[reflector] = self._group.create_task(reflector.run(told), name=f"watch {reflector}")

    def _stop(self) -> None:
        """The reflectors keep what they know, and go on from there."""
        self._group = None
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _everything(self) -> None:
        """Until every kind, and the Pods of every pool, were listed once."""
        while waiting := self.status.waiting_for:
            try:
                async with asyncio.timeout(_WAIT_SAID_SECONDS):
                    await self._gathering.due()
            except TimeoutError:
                log.warning("waiting for the API server: %s", ", ".join(waiting[:MAX_LOGGED]))

    def _kind_changed(self, resource: Resource, reflector: Reflector, keys: Collection[Key]) -> None:
        with _door(f"{resource} not taken in"):
            for key in keys:
                self._world.put(resource, key, reflector.objects.get(key))
            self._follow_pods()
        self._gathering.soon(self._pace.urgent_seconds)

    def _pods_changed(self, selection: Selection, reflector: Reflector, keys: Collection[Key]) -> None:
        is_urgent = selection not in self._known
        with _door("pods not taken in"):
            for key in keys:
                is_urgent |= self._world.put_pod(selection, key, reflector.objects.get(key))
        self._gathering.soon(self._pace.urgent_seconds if is_urgent else self._pace.gather_seconds)

    def _follow_pods(self) -> None:
        """Exactly the Pods that pools select are followed."""
        wanted = self._world.selections()
        for selection in self._pods.keys() - wanted:
            task = self._tasks.pop(self._pods.pop(selection), None)
            if task is not None:
                task.cancel()
            self._world.forget(selection)
        for selection in sorted(wanted - self._pods.keys()):
            reflector = Reflector(
                self._client,
                PODS,
                selection.namespace,
                selection.selector,
                keep=kept_of_pod,
                pace=self._pace.reflectors,
            )
            self._pods[selection] = reflector
            self._follow(reflector, partial(self._pods_changed, selection, reflector))

    def _rebuild(self) -> None:
        """Make what is known the current Blueprint; the old one stays if nothing that matters is different."""
        with _door("objects not rebuilt; the last good state stays in effect"):
            self._known = frozenset(selection for selection, reflector in self._pods.items() if reflector.synced)
            self._world.settle(self._known)
            self._follow_pods()
            drawn = Draft(items=self._world.items(), picker=self._picker, warnings=self._world.warnings())
            new = build(drawn, {}, self.current.catalog.generation + 1)
            self.status.built(self._world.problems(), new.warnings)
            self._swap(new)

    def _swap(self, new: Blueprint) -> None:
        old = self.current
        same = replace(new.catalog, generation=old.catalog.generation) == old.catalog
        if same and new.picker == old.picker and new.statuses == old.statuses:
            return
        self.current = new
        fields = {"generation": new.catalog.generation}
        if _without_endpoints(old) == _without_endpoints(new):
            log.debug("endpoints changed", extra={"fields": fields})
            return
        log.info("objects changed", extra={"fields": fields})
        for line in changes(old.catalog, new.catalog)[:MAX_LOGGED]:
            log.info("changed: %s", line)


def _without_endpoints(blueprint: Blueprint) -> Blueprint:
    """What does not change with every Pod."""
    pools = {name: replace(pool, endpoints=()) for name, pool in blueprint.catalog.pools.items()}
    return Blueprint(replace(blueprint.catalog, generation=0, pools=pools), blueprint.picker)


@contextlib.contextmanager
def _door(message: str) -> Iterator[None]:
    """A bug in reading objects must not end what is being served."""
    try:
        yield
    except Exception:
        log.exception("%s, by a bug", message)
