"""What the picker has of a cluster: its objects, its part in an election, and who may read its metrics."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager

import msgspec

from stellwerk.app.picker import Place, Source, SourceStatus
from stellwerk.app.running import files_of
from stellwerk.blueprint import Blueprint
from stellwerk.config import Cluster, Config
from stellwerk.control.kube.resource import OLD_POOLS, POOLS, Key
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.lease import Election
from stellwerk.edge.kube.metrics import election_families, families
from stellwerk.edge.kube.reviews import AccessReviewer
from stellwerk.edge.kube.source import KubeSource, Scope
from stellwerk.edge.objects import ObjectSource
from stellwerk.telemetry.render import Family

READ_BY_SCRAPERS = "/metrics"
ELSEWHERE = "/stellwerk"
"""Before every other path when the API server is asked: clusters let everybody who has a token read `/api/*`."""
UNNAMED_POOL = "epp"
"""Name of a pool that is only a selector, where no Pod's name says a better one."""


class ClusterSource:
    """Objects from the API server, with the picker's configuration from a file or flag."""

    def __init__(self, kube: KubeSource, settings: ObjectSource) -> None:
        self._kube, self._settings = kube, settings

    @property
    def status(self) -> SourceStatus:
        """Of the API server's objects."""
        return self._kube.status

    @property
    def problems(self) -> Iterable[str]:
        """What is wrong with the picker's configuration."""
        return map(str, self._settings.status.problems)

    @property
    def unreadable(self) -> frozenset[str]:
        """Full names of chosen pools that will not come as they are."""
        return self._kube.unreadable

    def choose(self, pools: Collection[Key]) -> None:
        """From here on these pools matter."""
        self._kube.choose(pools)

    async def load(self) -> Blueprint:
        """Raises ObjectsInvalid for a wrong configuration; for objects it waits as long as it takes."""
        self._kube.use((await self._settings.load()).picker)
        return await self._kube.load()

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow both."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settings.run(lambda read: self._kube.use(read.picker)), name="picker config")
            group.create_task(self._kube.run(apply), name="cluster objects")


class InCluster:
    """All of it, for one picker. Owner of the election."""

    def __init__(self, config: Config, cluster: Cluster, client: KubeClient) -> None:
        namespace = cluster.namespace or client.namespace
        name = cluster.pool_name or _name_of(cluster.instance)
        self.pool = f"{namespace}/{name}"
        self.config = msgspec.structs.replace(config, epp=msgspec.structs.replace(config.epp, pool=self.pool))
        self._kube = KubeSource(client, _scope(cluster, namespace, name))
        self._settings = files_of(msgspec.structs.replace(config, objects=(), servers=()))
        self.source: Source = ClusterSource(self._kube, self._settings)
        self._changed: Callable[[], None] = lambda: None
        self._election: Election | None = None
        if cluster.elects:
            # The Go picker's lease: while one replaces the other, only one of them serves.
            identity = f"{cluster.instance or socket.gethostname()}-{secrets.token_hex(4)}"
            self._election = Election(client, f"epp-{namespace}-{name}.llm-d.ai", namespace, identity)
        reviewer = AccessReviewer(client) if cluster.guards_metrics else None

        async def guard(authorization: str | None, path: str) -> int:
            assert reviewer is not None
            asked = path if path == READ_BY_SCRAPERS else ELSEWHERE + path
            return (await reviewer.review(authorization, asked)).value

        self.place = Place(
            closed=self.closed,
            guard=guard if reviewer is not None else None,
            families=self.families,
            until_draining=self.take_part if self._election is not None else None,
        )

    def on_change(self, tell: Callable[[], None]) -> None:
        """Who is to be told when leading begins or ends."""
        self._changed = tell

    def closed(self) -> Iterator[str]:
        """Why another replica should get the requests."""
        if self.pool not in self._kube.current.catalog.pools:
            yield f"the cluster has no InferencePool {self.pool}"
        if self._election is not None and not self._election.led_last:
            yield f"standing by: {self._election.holder or 'nobody'} leads"

    def remarks(self) -> Iterator[str]:
        """What is wrong with the configuration of the picker, and with its lease."""
        yield from map(str, self._settings.status.problems)
        if self._election is not None and self._election.error:
            serves = self._election.led_last and not self._election.is_leader
            yield f"lease: {self._election.error}" + (" (serving on, as the last that led)" if serves else "")

    def families(self) -> Iterator[Family]:
        """Of the watches, and of the election."""
        yield from families(self._kube.reflectors())
        if self._election is not None:
            yield from election_families(self._election)

    async def take_part(self) -> None:
        """In the election, until cancelled; then the lease is given back."""
        assert self._election is not None
        await self._election.run(lambda: self._changed())


@asynccontextmanager
async def in_cluster(config: Config) -> AsyncIterator[InCluster]:
    """The cluster of `config.epp.cluster`, for the duration of the block. Raises NoCluster."""
    assert config.epp.cluster is not None
    client = KubeClient.from_environment(config.epp.cluster.kubeconfig)
    try:
        yield InCluster(config, config.epp.cluster, client)
    finally:
        await client.close()


def _scope(cluster: Cluster, namespace: str, name: str) -> Scope:
    if cluster.selector:
        return Scope.of_selector(namespace, name, cluster.selector, cluster.ports)
    return Scope.of_pool(namespace, name, POOLS if cluster.pool_group == POOLS.group else OLD_POOLS)


def _name_of(instance: str | None) -> str:
    """The Deployment's name, from that of its Pod (`name-5d8f9c-x7k2p`)."""
    parts = (instance or "").rsplit("-", 2)
    return parts[0] if len(parts) == 3 else UNNAMED_POOL
