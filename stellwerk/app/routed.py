"""`stellwerk gateway`: a gateway of a cluster. Its routes come from the Gateway API, its pools' endpoints from Pods.

The same supervisor and picker as on one machine; what differs is the source of objects, and that the route chooses the
pool.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Protocol

import msgspec

from stellwerk.app.gateway import PickerJob, envoy_settings, rejection, rejection_families, supervise
from stellwerk.app.in_cluster import ClusterSource
from stellwerk.app.picker import STANDING, Picker, Place, SourceStatus
from stellwerk.app.running import files_of, running
from stellwerk.blueprint import Blueprint
from stellwerk.config import Config, OwnGateway
from stellwerk.control.envoy.document import Document
from stellwerk.control.envoy.resources import Resources
from stellwerk.control.envoy.route_mode.clusters import gateway_clusters, gateway_members, picker_members
from stellwerk.control.envoy.route_mode.farewell import Farewells
from stellwerk.control.envoy.route_mode.resources import gateway_resources
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.control.gateway.backend import BodyMode
from stellwerk.control.gateway.deployment import NOTICE_SECONDS
from stellwerk.control.gateway.plan import GatewayPlan, plan
from stellwerk.control.gateway.ports import container_ports
from stellwerk.control.gateway.world import World, with_lost_classes
from stellwerk.control.kube.resource import POOLS, Key
from stellwerk.edge import discovery, extproc, log, preflight
from stellwerk.edge.awaiting import HELD_SECONDS, Awaiting
from stellwerk.edge.envoy import EnvoyFiles
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Service
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.gateway_world import GatewayWorld
from stellwerk.edge.kube.source import KubeSource, Scope
from stellwerk.edge.objects import ObjectSource
from stellwerk.edge.objects.world import WorldFiles
from stellwerk.model.catalog import Catalog
from stellwerk.telemetry.render import Family

_log = logging.getLogger("stellwerk.gateway")


class Worlds(Protocol):
    """Where Gateway API objects come from."""

    async def load(self) -> World:
        """Everything, for the first time."""

    async def run(self, apply: Callable[[World], None]) -> None:
        """Follow every change until cancelled."""

    def remarks(self) -> Iterator[str]:
        """What is behind, and what was left out."""


class Pools(Protocol):
    """Where pools and their endpoints come from: `app.in_cluster.ClusterSource` or `edge.objects.ObjectSource`."""

    @property
    def status(self) -> SourceStatus:
        """How it goes."""

    async def load(self) -> Blueprint:
        """Everything, for the first time."""

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow every change until cancelled."""


class Router:
    """The `Source` of a gateway's picker: joins the Gateway's plan with the endpoints of its pools.

    Owner of the plan in effect. A new plan takes effect when the Pods of pools that are new in it are known, so that
    a route that moves to another pool does not find it empty.
    """

    def __init__(self, own: OwnGateway, worlds: Worlds, pools: Pools, held_seconds: float = HELD_SECONDS) -> None:
        self.planned: GatewayPlan | None = None
        """In effect, or about to be."""
        self._own, self._worlds, self._pools = own, worlds, pools
        self._wanted: GatewayPlan | None = None
        self._late = asyncio.Event()
        self._awaiting = Awaiting(self._late.set, held_seconds)
        self._blueprint = Blueprint(Catalog())

    @property
    def status(self) -> SourceStatus:
        """How following pools goes."""
        return self._pools.status

    @property
    def catalog(self) -> Catalog:
        """All pools of the plan, those of foreign pickers too."""
        return self._blueprint.catalog

    async def load(self) -> Blueprint:
        """Everything for the first time."""
        await self._plan(await self._worlds.load())
        self._blueprint = await self._pools.load()
        self.planned = self._wanted
        return self._mine()

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow every change until cancelled."""
        newest: list[World] = []
        news = asyncio.Event()

        def new_world(world: World) -> None:
            newest[:] = [world]
            news.set()

        def new_pools(blueprint: Blueprint) -> None:
            self._blueprint = blueprint
            self._settle(apply)

        async def taking_effect() -> None:
            while True:
                await self._late.wait()
                self._late.clear()
                self._settle(apply)

        async def planning() -> None:
            while True:
                await news.wait()
                news.clear()
                await self._plan(newest.pop())
                self._settle(apply)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._worlds.run(new_world), name="routes")
                group.create_task(self._pools.run(new_pools), name="pools")
                group.create_task(planning(), name="planning")
                group.create_task(taking_effect(), name="waiting for pools")
        finally:
            self._awaiting.close()

    def remarks(self) -> Iterator[str]:
        """What is wrong although traffic may come."""
        yield from self._worlds.remarks()
        if isinstance(self._pools, ClusterSource):
            yield from self._pools.problems
        for each in self.planned.listeners if self.planned is not None else ():
            if not each.checked.can_serve:
                yield f"listener {each.name} of Gateway {self._own.name} cannot serve; its status says why"
            elif each.checked.unresolved is not None:
                yield f"listener {each.name} of Gateway {self._own.name}: {each.checked.unresolved.message}"

    def unready(self) -> Iterator[str]:
        """Why no traffic should come."""
        if self.planned is None:
            yield f"there is no Gateway {self._own.name}, or its class is not one of {self._own.controller}"

    async def _plan(self, world: World) -> None:
        """On a thread: with hundreds of routes it takes longer than a request should wait."""
        mode, controller = BodyMode(self._own.picker_body_mode), self._own.controller
        before = self._wanted.certificates if self._wanted is not None else ()
        known = with_lost_classes(world, controller, [self._own.name])
        whole = await asyncio.to_thread(plan, known, controller, mode, before)
        self._wanted = whole.gateways.get(self._own.name)
        if isinstance(self._pools, ClusterSource):
            self._pools.choose([_key(name) for name in self._needed()])

    def _needed(self) -> frozenset[str]:
        """Pools of the plan in effect and of the one to come."""
        plans = [each for each in (self.planned, self._wanted) if each is not None]
        return frozenset().union(*(each.pools for each in plans))

    def _settle(self, apply: Callable[[Blueprint], None]) -> None:
        if self._wanted is self.planned or not self._awaiting.is_worth_it(self._missing()):
            self.planned = self._wanted
        apply(self._mine())

    def _missing(self) -> frozenset[str]:
        """Pools of the plan that are still to come. One that cannot be read is not waited for."""
        wanted = self._wanted.pools if self._wanted is not None else frozenset()
        lost = self._pools.unreadable if isinstance(self._pools, ClusterSource) else frozenset()
        return wanted - self.catalog.pools.keys() - lost

    def _mine(self) -> Blueprint:
        """What the gateway's own picker has to know."""
        own = self.planned.own_pools if self.planned is not None else frozenset()
        catalog = self._blueprint.catalog
        mine = msgspec.structs.replace(
            catalog,
            pools={name: pool for name, pool in catalog.pools.items() if name in own},
            models={name: model for name, model in catalog.models.items() if model.pool in own},
            default_pool=None,
        )
        return msgspec.structs.replace(self._blueprint, catalog=mine)


class RoutedPicker(Picker):
    """A picker whose proxy asks for a given pool: it must know a pool before a route leads there."""

    def __init__(
        self,
        config: Config,
        settings: extproc.ExtProcSettings,
        router: Router,
        write: Callable[[Resources], None],
        envoy: EnvoySettings,
        remarks: Callable[[], Iterator[str]],
    ) -> None:
        super().__init__(config, settings, router, self._show, remarks, Place(is_private=True))
        self._router, self._write, self._envoy = router, write, envoy
        self._written: tuple[GatewayPlan | None, dict[str, Document]] | None = None
        """What Envoy's files were made from."""
        self._writing = threading.Lock()
        self._endpoints, self._secrets = discovery.endpoints(), discovery.secrets()
        self._farewells = Farewells()
        self._parting: asyncio.TimerHandle | None = None

    def services(self) -> dict[str, Service]:
        """Also who is in the clusters, and certificates."""
        endpoints, secrets = self._endpoints, self._secrets
        return {**super().services(), discovery.ENDPOINTS_PATH: endpoints, discovery.SECRETS_PATH: secrets}

    async def roll_out(self) -> None:
        """First the picker learns of new pools, then Envoy of everything, then both forget what is gone."""
        while True:
            await self._has_wanted.wait()
            self._has_wanted.clear()
            old, new, picker = self._catalog, self.adapted(self._wanted.catalog), self._wanted.picker
            if new.pools.keys() - old.pools.keys():
                self.configure(msgspec.structs.replace(new, pools={**new.pools, **old.pools}), picker)
            planned, wanted = self._router.planned, self._tell_envoy(new)
            present = self._written[1] if self._written is not None else {}
            leaving = present.keys() - wanted.keys()
            # On a thread: with hundreds of routes it takes longer than a request should wait.
            await asyncio.to_thread(self._write_files, planned, {**present, **wanted})
            if leaving or new.pools.keys() != old.pools.keys():
                await asyncio.sleep(self._settle_seconds)
            self.configure(new, picker)
            if leaving:
                await asyncio.to_thread(self._write_files, planned, wanted)
                self._endpoints.forget(leaving)
            self._secrets.keep(_certificates(planned))

    def learn_models(self) -> None:
        """Routes choose pools: Envoy need not know models."""
        self._has_listing = False

    def unready(self) -> tuple[str, ...]:
        """A Gateway without pools has routes to Services; a pool without endpoints answers 503 by itself."""
        starting = () if self._is_listening else ("starting",)
        draining = ("draining",) if self._is_draining else ()
        return (*starting, *draining, *self._router.unready())

    def families(self) -> Iterator[Family]:
        """Also of what Envoy was told."""
        yield from super().families()
        yield from rejection_families(self._envoy.paths)
        sent = {"endpoints": self._endpoints.sent, "certificates": self._secrets.sent}
        rejected = {"endpoints": self._endpoints.rejected, "certificates": self._secrets.rejected}
        rows = [((kind, "taken"), count - rejected[kind]) for kind, count in sent.items()]
        rows += [((kind, "rejected"), count) for kind, count in rejected.items()]
        yield Family(
            "stellwerk_envoy_updates_total",
            "counter",
            "Clusters whose endpoints, and certificates, that Envoy was told, by whether it took them.",
            ("kind", "result"),
            rows,
        )

    def _show(self, catalog: Catalog, served: Mapping[str, tuple[str, ...]]) -> None:
        """When the picker has begun to listen."""
        self._write_files(self._router.planned, self._tell_envoy(catalog))

    def _tell_envoy(self, own: Catalog) -> dict[str, Document]:
        """Who is in each cluster, and certificates; returns the clusters themselves. `own` has the pools that this
        picker serves, the router those of foreign pickers too."""
        planned, pools = self._router.planned, {**self._router.catalog.pools, **own.pools}
        whole = msgspec.structs.replace(own, pools=pools)
        self._endpoints.tell(gateway_members(planned, whole))
        self._tell_pickers()
        self._secrets.tell(_certificates(planned))
        return {each["name"]: each for each in gateway_clusters(planned, whole, self._envoy)}

    def _tell_pickers(self) -> None:
        """Who answers for the pickers of others; again, when those who left have been kept long enough."""
        if self._parting is not None:
            self._parting.cancel()
        loop = asyncio.get_running_loop()
        self._endpoints.tell(self._farewells.told(picker_members(self._router.planned), loop.time()))
        due = self._farewells.next_deadline
        self._parting = loop.call_at(due, self._tell_pickers) if due < inf else None

    def _write_files(self, planned: GatewayPlan | None, clusters: dict[str, Document]) -> None:
        """Nothing to do where only endpoints are different."""
        with self._writing:
            if self._written is not None and self._written[0] is planned and self._written[1] == clusters:
                return
            ports = container_ports(each.checked.listener.port for each in planned.listeners) if planned else {}
            self._write(gateway_resources(planned, clusters.values(), self._envoy, ports))
            self._written = planned, clusters


def _certificates(planned: GatewayPlan | None) -> dict[str, discovery.Pair]:
    """By name of the Secret."""
    return {each.secret: (each.chain, each.key) for each in planned.certificates} if planned is not None else {}


def run_routed(config: Config) -> int:
    """The gateway: supervises Envoy and the picker until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)

    async def serve() -> None:
        # Only to refuse a bad start before anything runs: the picker reads again, and it is the one to log.
        logging.getLogger("stellwerk.objects").disabled = True
        await _picker_settings(config).load()
        binary = preflight.find_envoy()
        preflight.check_port(config.admin.host, config.admin.port, "--admin")
        with preflight.RuntimeDirectory() as paths:
            first = gateway_resources(None, (), envoy_settings(config, paths), {})
            await supervise(config, paths, binary, first, NOTICE_SECONDS)

    return running(serve)


def run_routed_picker(job: PickerJob) -> int:
    """The picker child of `stellwerk gateway`: serves Envoy over a Unix socket and writes Envoy's files."""
    config, paths = job.config, RuntimePaths(job.directory)
    log.configure(config.observability.log_format, config.observability.log_level)
    files, envoy = EnvoyFiles(paths), envoy_settings(config, paths)
    settings = extproc.ExtProcSettings(
        is_own_proxy=True, is_routed=True, epoch=secrets.token_hex(4), limits=config.body, timeouts=config.timeouts
    )

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            router = Router(*_sources(config, stack))

            def remarks() -> Iterator[str]:
                yield from router.remarks()
                yield from rejection(paths)

            picker = RoutedPicker(config, settings, router, lambda made: _write(files, made), envoy, remarks)
            server = GrpcServer({**picker.services(), **picker.health.services()}, config.transport, STANDING)
            stack.push_async_callback(picker.admin.close)
            stack.push_async_callback(server.close)
            await picker.run(lambda: server.listen_unix(paths.picker_socket))
            await server.drain(config.timeouts.drain_seconds)

    return running(serve)


def _sources(config: Config, stack: contextlib.AsyncExitStack) -> tuple[OwnGateway, Worlds, Pools]:
    """Files if some are named, else the API server."""
    own = config.gateway
    assert own is not None
    if config.objects:
        return own, WorldFiles(config.objects), files_of(config)
    client = KubeClient.from_environment(own.kubeconfig)
    stack.push_async_callback(client.close)
    kube = KubeSource(client, Scope(namespaces=own.namespaces, pool_resources=(POOLS,)))
    worlds = GatewayWorld(client, _key(own.name), own.controller, own.namespaces)
    return own, worlds, ClusterSource(kube, _picker_settings(config))


def _picker_settings(config: Config) -> ObjectSource:
    """The picker's configuration alone."""
    return files_of(msgspec.structs.replace(config, objects=(), servers=()))


def _write(files: EnvoyFiles, made: Resources) -> None:
    written = files.write(made)
    if written:
        _log.debug("Envoy's files written", extra={"fields": {"count": len(written)}})


def _key(name: str) -> Key:
    namespace, _, own = name.partition("/")
    return namespace, own
