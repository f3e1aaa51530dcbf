"""The endpoint picker: engine, services, signals, objects and admin, connected. One event loop."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Protocol

import msgspec

from stellwerk.blueprint import Blueprint
from stellwerk.config import Config
from stellwerk.control.finding import Finding
from stellwerk.edge import accesslog, discovery, extproc
from stellwerk.edge.admin import AdminServer, Guard, Views
from stellwerk.edge.grpc.health import WATCH, Health
from stellwerk.edge.grpc.service import Service
from stellwerk.edge.metrics import MetricsPage
from stellwerk.edge.scrape import Scraper
from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.catalog import Catalog
from stellwerk.model.event import Ask, Configured, Decided, Draining, Event, ModelsListed, Tick
from stellwerk.model.outcome import Picked, Refused
from stellwerk.model.picker_config import PickerConfig
from stellwerk.model.reason import Reason
from stellwerk.model.view import PoolsView
from stellwerk.telemetry.meters import Meters
from stellwerk.telemetry.render import Family, counter, gauge

HEALTH_SERVICES = ("", "liveness", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
"""Names under which health is asked for: by Envoy, by upstream's charts, by the conformance fixtures."""
STANDING = frozenset({accesslog.PATH, *discovery.PATHS, WATCH})
"""Calls that the peer never ends by itself; a drain does not wait for them."""
ENVOY_SETTLE_SECONDS = 0.5
"""Envoy notices a renamed file at once and takes some ten milliseconds to act on it."""
FIRST_SIGNALS_SECONDS = 1.0
QUIET_SECONDS = 5.0
"""Without a request for so long while draining, nobody sends any more."""
_TICK_SECONDS = 1.0
_log = logging.getLogger("stellwerk.picker")

Publish = Callable[[Catalog, Mapping[str, tuple[str, ...]]], None]
"""Tells Envoy of a catalog, and of the models that each pool's servers list."""


def _to_nobody(catalog: Catalog, served: Mapping[str, tuple[str, ...]]) -> None:
    """The proxy is not ours to configure."""


class SourceStatus(Protocol):
    """How following the objects goes."""

    @property
    def good(self) -> int:
        """Readings put into effect."""

    @property
    def bad(self) -> int:
        """Readings with problems."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is wrong right now."""

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Names without an address."""

    @property
    def is_stale(self) -> bool:
        """Whether what is in effect is not what the objects say."""


class Source(Protocol):
    """Where objects come from: files (`edge.objects.ObjectSource`) or an API server (`edge.kube`)."""

    @property
    def status(self) -> SourceStatus:
        """How it goes."""

    async def load(self) -> Blueprint:
        """Everything, for the first time."""

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow every change until cancelled."""


class Place(msgspec.Struct, frozen=True):
    """What a picker finds where it runs, beside its objects and its proxy."""

    closed: Callable[[], Iterable[str]] = tuple
    """Why requests should go to another replica, for health checkers; none: they may come."""
    guard: Guard | None = None
    """Who may read metrics and decisions; None: everybody."""
    is_private: bool = False
    """Whether pools and decisions are shown to callers from the same pod only."""
    families: Callable[[], Iterable[Family]] = tuple
    """More metrics."""
    until_draining: Callable[[], Coroutine[Any, Any, None]] | None = None
    """What goes on from the first request until draining begins: taking part in an election."""


class Picker:
    """The endpoint picker: engine, services, signals, objects, admin. One event loop, no threads."""

    def __init__(
        self,
        config: Config,
        settings: extproc.ExtProcSettings,
        source: Source,
        publish: Publish = _to_nobody,
        remarks: Callable[[], Iterable[str]] = tuple,
        place: Place = Place(),  # noqa: B008 - frozen
    ) -> None:
        self.config = config
        self.place = place
        self.meters = Meters()
        self.engine = Engine(engine_settings(config, settings.is_own_proxy), Random(), self.meters)
        self.extproc = extproc.ExtProcService(self.receive, settings, time.monotonic)
        self.accesslog = accesslog.AccessLogService(settings.epoch, self.tell)
        self.health = Health()
        self.scraper = Scraper(config.scraping, self.tell)
        self.objects = source
        self.admin = AdminServer(config.admin, self.views(), place.guard, is_private=place.is_private)
        self._publish = publish
        self._more_remarks = remarks
        self._is_listening = False
        self._is_draining = False
        self._catalog = Catalog()
        self._published: Catalog | None = None
        self._served: dict[str, tuple[str, ...]] = {}
        self._wanted = Blueprint(self._catalog)
        self._has_wanted = asyncio.Event()
        self._has_deadline = asyncio.Event()
        self._has_listing = False
        self._settle_seconds = ENVOY_SETTLE_SECONDS if settings.is_own_proxy else 0.0

    def services(self) -> dict[str, Service]:
        """The gRPC services by path, without health."""
        return {extproc.PATH: self.extproc, accesslog.PATH: self.accesslog}

    def receive(self, event: Event, now: float) -> Sequence[Decided]:
        """The engine's door. Who just got a request is read soon."""
        commands = self.engine.receive(event, now)
        if type(event) is Ask:
            if not commands:
                # It waits, and until when is news to `keep_time`.
                self._has_deadline.set()
            for decided in commands:
                if type(decided.outcome) is Picked:
                    self.scraper.busy(decided.outcome.endpoints[0].key)
                elif type(decided.outcome) is Refused and decided.outcome.reason is Reason.UNKNOWN_MODEL:
                    self.scraper.ask_models()
        return commands

    def tell(self, event: Event) -> None:
        """An event from anywhere but the ext_proc service."""
        self.extproc.tell(event, time.monotonic())
        if type(event) is ModelsListed:
            self._has_listing = True

    def learn_models(self) -> None:
        """Tell Envoy which models the servers list: while the picker is away, they say which pool a request is for."""
        self._has_listing = False
        served = {
            pool.name: tuple(sorted({name for endpoint in pool.endpoints for name in endpoint.models or ()}))
            for pool in self.describe().pools
        }
        if served != self._served:
            self._served = served
            if self._published is not None:
                self.publish(self._published)

    def publish(self, catalog: Catalog) -> None:
        """Tell Envoy."""
        self._published = catalog
        self._publish(catalog, self._served)

    def apply(self, blueprint: Blueprint) -> None:
        """New objects: put into effect soon, the newest only."""
        self._wanted = blueprint
        self._has_wanted.set()

    async def roll_out(self) -> None:
        """Put what `apply` got into effect. Envoy needs a moment to take up its files: a new pool is there before the
        engine picks it, and one that goes stays there until nothing can be picked from it any more."""
        while True:
            await self._has_wanted.wait()
            self._has_wanted.clear()
            old, new = self._catalog, self.adapted(self._wanted.catalog)
            self.publish(msgspec.structs.replace(new, pools={**old.pools, **new.pools}))
            if new.pools.keys() - old.pools.keys():
                await asyncio.sleep(self._settle_seconds)
            self.configure(new, self._wanted.picker)
            self.show_health()
            if old.pools.keys() - new.pools.keys():
                await asyncio.sleep(self._settle_seconds)
                self.publish(new)

    def configure(self, catalog: Catalog, picker: PickerConfig) -> None:
        """Engine and scraper: from here on this catalog holds."""
        self._catalog = catalog
        self.extproc.expect(catalog.renames)
        self.tell(Configured(catalog, picker))
        self.scraper.set_endpoints(endpoint for pool in catalog.pools.values() for endpoint in pool.endpoints)

    def adapted(self, catalog: Catalog) -> Catalog:
        """The catalog as this picker serves it: behind a foreign gateway model names are the servers' business."""
        is_foreign = not self.extproc.settings.is_own_proxy
        return msgspec.structs.replace(
            catalog,
            passes_unknown_models=is_foreign and not self.config.epp.is_strict,
            default_pool=(self.config.epp.pool if is_foreign else None) or catalog.default_pool,
        )

    def unready(self) -> tuple[str, ...]:
        """Why no traffic should come; none: ready."""
        reasons = self.engine.unready(time.monotonic())
        if self._is_draining:
            reasons = ("draining", *reasons)
        if not self._is_listening:
            reasons = ("starting", *reasons)
        pool = self.config.epp.pool
        if pool is not None and pool not in self._catalog.pools and self.config.epp.cluster is None:
            reasons = (*reasons, f"there is no InferencePool {pool} (--pool-name, --pool-namespace)")
        return (*reasons, *self.place.closed())

    def show_health(self) -> None:
        """Tell health checkers. The picker serves as long as it can answer: with a typed refusal, if it must."""
        is_open = self._is_listening and not self._is_draining and not any(self.place.closed())
        for name in HEALTH_SERVICES:
            self.health.set(name, name == "liveness" or is_open)

    def views(self) -> Views:
        """What the admin server shows."""
        return Views(
            describe=self.describe,
            traces=self.engine.traces,
            trace=self.engine.trace,
            unready=self.unready,
            metrics=MetricsPage(
                self.meters,
                self.describe,
                [self.engine.families, self.scraper.families, self.families, self.place.families],
            ).pieces,
            remarks=self.remarks,
        )

    def describe(self) -> PoolsView:
        """The engine's view of this moment."""
        return self.engine.describe(time.monotonic())

    def remarks(self) -> Iterator[str]:
        """What is wrong although traffic may come."""
        yield from map(str, self.objects.status.problems)
        for name in self.objects.status.unresolved:
            yield f"{name} does not resolve; its last known addresses stay in use"
        yield from self._more_remarks()

    def families(self) -> Iterator[Family]:
        """Counters of the parts that are built here."""
        status, streams = self.objects.status, self.extproc.counts
        yield Family(
            "stellwerk_config_reloads_total",
            "counter",
            "Readings of the objects, by whether they were put into effect.",
            ("result",),
            ((("good",), status.good), (("bad",), status.bad)),
        )
        yield gauge("stellwerk_config_stale", "1 while the last reading of the objects was refused.", status.is_stale)
        yield counter("stellwerk_extproc_streams_total", "ext_proc streams that began.", streams.conversations)
        yield from extproc.families(streams)
        yield counter("stellwerk_extproc_failures_total", "Bugs caught at the door of a stream.", streams.failures)
        yield counter("stellwerk_extproc_out_of_order_total", "Messages out of order.", streams.out_of_order)
        yield gauge("stellwerk_extproc_buffered_bytes", "Bodies held by the picker.", streams.buffered_bytes)

    async def keep_time(self) -> None:
        """Send `Tick` when the engine asks for it, and every second."""
        while True:
            due = self.engine.next_deadline()
            wait = _TICK_SECONDS if due is None else min(_TICK_SECONDS, max(0.001, due - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._has_deadline.wait()
            self._has_deadline.clear()
            self.tell(Tick())
            self.show_health()
            if self._has_listing:
                self.learn_models()

    async def first_signals(self) -> None:
        """Wait until every server was heard of or failed to answer, for a second at most: before that a model that
        only servers know would be refused as unknown."""
        ends = time.monotonic() + FIRST_SIGNALS_SECONDS
        while time.monotonic() < ends and any(  # noqa: ASYNC110 - a look at the fleet every few milliseconds
            endpoint.health == "unknown" or (endpoint.health == "healthy" and endpoint.models is None)
            for pool in self.describe().pools
            for endpoint in pool.endpoints
        ):
            await asyncio.sleep(0.01)

    async def run(self, listen: Callable[[], Awaitable[None]], grace_seconds: float = 0.0) -> None:
        """Load, listen, and serve until SIGTERM or SIGINT. Then health says no, requests are still served for
        `grace_seconds` or until none came for a while, and what still waits is refused.

        Raises ObjectsInvalid, OSError.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self.show_health()
        await self.admin.start()
        first = await self._first(stop)
        if first is None:
            return
        self.configure(self.adapted(first.catalog), first.picker)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.scraper.run(), name="scraper"),
                group.create_task(self.objects.run(self.apply), name="objects"),
                group.create_task(self.roll_out(), name="rollout"),
                group.create_task(self.keep_time(), name="clock"),
            ]
            await self.first_signals()
            self.learn_models()
            await listen()
            self._is_listening = True
            for reason in self.unready():
                _log.warning("not ready: %s", reason)
            self.show_health()
            # Last, since clients come with it.
            self.publish(self._catalog)
            candidate = self.place.until_draining and group.create_task(self.place.until_draining(), name="candidate")
            await stop.wait()
            self._is_draining = True
            self.show_health()
            if candidate is not None:
                candidate.cancel()
            await self.last_requests(grace_seconds)
            self.tell(Draining())
            for task in tasks:
                task.cancel()

    async def _first(self, stop: asyncio.Event) -> Blueprint | None:
        """The objects as they are; an API server may let us wait for them. None: a signal came first."""
        loading = asyncio.create_task(self.objects.load(), name="first objects")
        stopping = asyncio.create_task(stop.wait(), name="signal")
        try:
            await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
            return loading.result() if loading.done() else None
        finally:
            for task in (loading, stopping):
                task.cancel()
            await asyncio.gather(loading, stopping, return_exceptions=True)

    async def last_requests(self, seconds: float) -> None:
        """Serve on while others still learn that we go: for `seconds`, or until no request came for a while."""
        ends, seen, since = time.monotonic() + seconds, -1, time.monotonic()
        while (now := time.monotonic()) < ends and now - since < QUIET_SECONDS:
            if self.extproc.counts.conversations != seen or self.extproc.counts.open:
                seen, since = self.extproc.counts.conversations, now
            await asyncio.sleep(0.05)


def engine_settings(config: Config, is_own_proxy: bool) -> EngineSettings:
    """The part of the configuration that the engine reads. A foreign gateway gets as many endpoints as the picker's
    `maxNumOfEndpoints` says, one unless set: agentgateway takes the list for one address, and fails."""
    return EngineSettings(
        fallback_count=EngineSettings().fallback_count if is_own_proxy else 0,
        prefix_index_bytes=config.prefix_index_bytes,
        decisions_bytes=config.observability.decisions_bytes,
        emits_scores=config.emits_scores,
        lost_after_seconds=config.scraping.believed_seconds or config.scraping.idle_interval_seconds + 2.0,
    )
