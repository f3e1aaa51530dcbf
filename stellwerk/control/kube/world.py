"""What an API server says of pools, their Pods and their policies, put together to a Draft that `blueprint` builds.

Pure and level-based: the Draft depends on what is there now. Only what changed is read again. A pool that selects other
Pods than before takes effect once those Pods are known, so that an edited selector does not empty it meanwhile.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import cast

from msgspec import Struct

from stellwerk.control.fields import Metadata
from stellwerk.control.finding import Finding
from stellwerk.control.intake import Intake, Item, Origin, admit
from stellwerk.control.kinds import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    OldInferencePool,
    Pool,
    PoolSpec,
    Port,
    SelectedPool,
    Selector,
)
from stellwerk.control.kube.pods import server_of
from stellwerk.control.kube.resource import POOL_RESOURCES, POOLS, Key, Object, Resource
from stellwerk.control.membership import selector_of

Policy = InferenceModel | InferenceObjective | InferenceModelRewrite


class Selection(Struct, frozen=True, order=True):
    """The Pods that one watch follows: a namespace and the selector, as an API server takes it."""

    namespace: str
    selector: str


def selection_of(pool: Pool) -> Selection | None:
    """The Pods of `pool`; None: an empty selector selects nothing."""
    if isinstance(pool, SelectedPool):
        return Selection(pool.metadata.namespace, pool.expression)
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector_of(pool).items()))
    return Selection(pool.metadata.namespace, labels) if labels else None


def pool_of_flags(namespace: str, name: str, expression: str, ports: Iterable[int]) -> Item:
    """The pool that a selector and ports given by flags stand for."""
    pool = SelectedPool(
        api_version=POOLS.api_version,
        kind=POOLS.kind,
        metadata=Metadata(name=name, namespace=namespace),
        spec=PoolSpec(Selector({}), tuple(Port(port) for port in ports)),
        expression=expression,
    )
    return Item(pool, Origin("--endpoint-selector"))


class World:
    """The objects that matter to a set of pools. Owner of what was read of each."""

    def __init__(self, pools: Collection[Key] | None = None) -> None:
        """`pools`: only these matter (namespace and name); None: all."""
        self._chosen = frozenset(pools) if pools is not None else None
        self._read: dict[Resource, dict[Key, Intake]] = {}
        self._servers: dict[Selection, dict[Key, Item]] = {}
        self._effective: dict[tuple[Resource, Key], Item] = {}

    def choose(self, pools: Collection[Key]) -> None:
        """From here on these pools matter."""
        self._chosen = frozenset(pools)

    def add(self, pool: Item) -> None:
        """A pool without an object."""
        metadata = pool.object.metadata
        self._read.setdefault(POOLS, {})[metadata.namespace, metadata.name] = Intake(items=(pool,))

    def put(self, resource: Resource, key: Key, value: Object | None) -> None:
        """A pool or policy as it is now; None: it is gone."""
        read = self._read.setdefault(resource, {})
        if value is None:
            read.pop(key, None)
        else:
            read[key] = admit(value, f"{resource.kind} {key[0]}/{key[1]}")

    def put_pod(self, selection: Selection, key: Key, pod: Object | None) -> bool:
        """A Pod, as `kept_of_pod` keeps it. True if a server that could be picked is gone or different: then there is
        no time to lose."""
        servers = self._servers.setdefault(selection, {})
        before = servers.get(key)
        after = server_of(pod) if pod is not None else None
        if after is None:
            servers.pop(key, None)
            return before is not None
        if before is not None and before.object == after.object:
            return False
        servers[key] = after
        return before is not None

    def forget(self, selection: Selection) -> None:
        """Nobody follows these Pods any more."""
        self._servers.pop(selection, None)

    def selections(self) -> frozenset[Selection]:
        """The Pods that should be followed: those of all pools, and of pools as they are in effect."""
        wanted = [item for _, item in self._pools()] + list(self._effective.values())
        found = (selection_of(cast(Pool, item.object)) for item in wanted)
        return frozenset(selection for selection in found if selection is not None)

    def settle(self, known: Collection[Selection]) -> None:
        """Put pools into effect whose Pods are `known`; others stay as they were. A pool that cannot be read stays as
        it was too; one that is gone goes."""
        present = dict(self._pools())
        effective: dict[tuple[Resource, Key], Item] = {}
        for place, item in present.items():
            selection = selection_of(cast(Pool, item.object))
            if selection is None or selection in known:
                effective[place] = item
            elif place in self._effective:
                effective[place] = self._effective[place]
        for resource in POOL_RESOURCES:
            for key in self._read.get(resource, ()):
                place = (resource, key)
                if place not in present and place in self._effective and self._matters(key):
                    effective[place] = self._effective[place]
        self._effective = effective

    def items(self) -> tuple[Item, ...]:
        """Everything that is in effect: pools, their servers, and the policies that name one of them."""
        pools = list(self._effective.values())
        names = {pool.object.full_name for pool in pools}
        servers: dict[Key, Item] = {}
        for selection in sorted({found for pool in pools if (found := selection_of(cast(Pool, pool.object)))}):
            servers.update(self._servers.get(selection, {}))
        return (*pools, *servers.values(), *self._policies(names))

    def unreadable(self) -> frozenset[str]:
        """Pools that matter and that are left out, because what is there is none that can be in effect."""
        present = {key for (_, key), _ in self._pools()} | {key for _, key in self._effective}
        found = {key for resource in POOL_RESOURCES for key in self._read.get(resource, ()) if self._matters(key)}
        return frozenset(f"{namespace}/{name}" for namespace, name in found - present)

    def problems(self) -> tuple[Finding, ...]:
        """What is wrong with pools that matter and with policies beside them."""
        return tuple(sorted(finding for intake in self._mattering() for finding in intake.problems))

    def warnings(self) -> tuple[Finding, ...]:
        """What is odd about single objects."""
        return tuple(sorted(finding for intake in self._mattering() for finding in intake.warnings))

    def _matters(self, key: Key) -> bool:
        return self._chosen is None or key in self._chosen

    def _pools(self) -> Iterator[tuple[tuple[Resource, Key], Item]]:
        for resource in POOL_RESOURCES:
            for key, intake in self._read.get(resource, {}).items():
                if self._matters(key):
                    for item in intake.items:
                        if isinstance(item.object, InferencePool | OldInferencePool):
                            yield (resource, key), item

    def _mattering(self) -> Iterator[Intake]:
        namespaces = {key[0] for key in self._chosen} if self._chosen is not None else None
        for resource, read in self._read.items():
            for key, intake in read.items():
                is_here = namespaces is None or key[0] in namespaces
                if is_here and (resource not in POOL_RESOURCES or self._matters(key)):
                    yield intake

    def _policies(self, pools: Collection[str]) -> Iterator[Item]:
        """In one namespace with other pools there are policies that are none of ours: without a remark."""
        for intake in self._mattering():
            for item in intake.items:
                policy = item.object
                if isinstance(policy, Policy):
                    name = f"{policy.metadata.namespace}/{policy.spec.pool_ref.name}"
                    if self._chosen is None or name in pools:
                        yield item
