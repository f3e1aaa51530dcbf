"""Composition roots: the only file that knows everyone. It builds, connects and closes; it decides nothing.

`run_gateway` is the supervisor of `stellwerk run`; its picker child is this module run as a program. `run_epp` is the
picker alone.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from stellwerk.blueprint import Blueprint
from stellwerk.config import Config
from stellwerk.control.envoy.resources import resources
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.edge import accesslog, extproc, log, preflight
from stellwerk.edge.admin import AdminServer, Views
from stellwerk.edge.envoy import EnvoyAdmin, EnvoyFiles, EnvoyLog, EnvoyWatch, Rejection, command, drain
from stellwerk.edge.grpc.health import WATCH, Health
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Service
from stellwerk.edge.metrics import MetricsPage
from stellwerk.edge.objects import ObjectsInvalid, ObjectSource
from stellwerk.edge.scrape import Scraper
from stellwerk.edge.supervisor import Program, Supervisor
from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.catalog import Catalog
from stellwerk.model.event import Ask, Configured, Decided, Draining, Event, ModelsListed, Tick
from stellwerk.model.outcome import Picked
from stellwerk.model.picker_config import PickerConfig
from stellwerk.model.view import PoolsView
from stellwerk.telemetry.meters import Meters
from stellwerk.telemetry.render import Family, counter, gauge

_log = logging.getLogger("stellwerk.app")
HEALTH_SERVICES = ("", "liveness", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
"""Names under which health is asked for: by Envoy, by upstream's charts, by the conformance fixtures."""
STANDING = frozenset({accesslog.PATH, WATCH})
"""Calls that the peer never ends by itself; a drain does not wait for them."""
REJECTION_FILE = "envoy-rejection"
ENVOY_SETTLE_SECONDS = 0.5
"""Envoy notices a renamed file at once and takes some ten milliseconds to act on it."""
_TICK_SECONDS = 1.0
FIRST_SIGNALS_SECONDS = 1.0
Publish = Callable[[Catalog, Mapping[str, tuple[str, ...]]], None]
"""Tells Envoy of a catalog, and of the models that each pool's servers list."""


class PickerJob(Struct, frozen=True):
    """What the supervisor hands to the picker child, as JSON in a file."""

    config: Config
    directory: str
    """The runtime directory."""


class Picker:
    """The endpoint picker: engine, services, signals, objects, admin. One event loop, no threads."""

    def __init__(
        self,
        config: Config,
        settings: extproc.ExtProcSettings,
        publish: Publish,
        remarks: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.config = config
        self.meters = Meters()
        self.engine = Engine(engine_settings(config), Random(), self.meters)
        self.extproc = extproc.ExtProcService(self.receive, settings, time.monotonic)
        self.accesslog = accesslog.AccessLogService(settings.epoch, self.tell)
        self.health = Health()
        self.scraper = Scraper(config.scraping, self.tell)
        self.objects = ObjectSource(config.objects, config.servers, config.picker_config)
        self.admin = AdminServer(config.admin, self.views())
        self._publish = publish
        self._more_remarks = remarks
        self._is_draining = False
        self._catalog = Catalog()
        self._published: Catalog | None = None
        self._served: dict[str, tuple[str, ...]] = {}
        self._wanted = Blueprint(self._catalog)
        self._has_wanted = asyncio.Event()
        self._settle_seconds = ENVOY_SETTLE_SECONDS if settings.is_own_proxy else 0.0

    def services(self) -> dict[str, Service]:
        """The gRPC services by path, without health."""
        return {extproc.PATH: self.extproc, accesslog.PATH: self.accesslog}

    def receive(self, event: Event, now: float) -> Sequence[Decided]:
        """The engine's door. Who just got a request is read soon."""
        commands = self.engine.receive(event, now)
        if type(event) is Ask:
            for decided in commands:
                if type(decided.outcome) is Picked:
                    self.scraper.busy(decided.outcome.endpoints[0].key)
        return commands

    def tell(self, event: Event) -> None:
        """An event from anywhere but the ext_proc service."""
        self.extproc.tell(event, time.monotonic())
        if type(event) is ModelsListed:
            self.learn_models()

    def learn_models(self) -> None:
        """Tell Envoy which models the servers list: while the picker is away, they say which pool a request is for."""
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
            if old.pools.keys() - new.pools.keys():
                await asyncio.sleep(self._settle_seconds)
                self.publish(new)

    def configure(self, catalog: Catalog, picker: PickerConfig) -> None:
        """Engine and scraper: from here on this catalog holds."""
        self._catalog = catalog
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
        draining = ("draining",) if self._is_draining else ()
        return draining + self.engine.unready(time.monotonic())

    def show_health(self) -> None:
        """Tell health checkers. The picker serves as long as it can answer: with a typed refusal, if it must."""
        for name in HEALTH_SERVICES:
            self.health.set(name, name == "liveness" or not self._is_draining)

    async def drain(self) -> None:
        """Not serving from here on; what waits is refused, what runs goes on."""
        self._is_draining = True
        self.show_health()
        self.tell(Draining())

    def views(self) -> Views:
        """What the admin server shows."""
        return Views(
            describe=self.describe,
            traces=self.engine.traces,
            trace=self.engine.trace,
            unready=self.unready,
            metrics=MetricsPage(self.meters, self.describe, [self.scraper.families, self.families]).pieces,
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
        yield gauge("llm_d_epp_extproc_streams_inflight", "ext_proc streams that are open.", streams.open)
        yield counter("stellwerk_extproc_failures_total", "Bugs caught at the door of a stream.", streams.failures)
        yield counter("stellwerk_extproc_out_of_order_total", "Messages out of order.", streams.out_of_order)
        yield gauge("stellwerk_extproc_buffered_bytes", "Bodies held by the picker.", streams.buffered_bytes)

    async def keep_time(self) -> None:
        """Send `Tick` when the engine asks for it, and every second."""
        while True:
            due = self.engine.next_deadline()
            wait = _TICK_SECONDS if due is None else due - time.monotonic()
            await asyncio.sleep(min(_TICK_SECONDS, max(0.001, wait)))
            self.tell(Tick())

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

    async def run(self, listen: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Load, listen, and serve until SIGTERM or SIGINT; then drain. Raises ObjectsInvalid, OSError."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        first = await self.objects.load()
        self.configure(self.adapted(first.catalog), first.picker)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.scraper.run(), name="scraper"),
                group.create_task(self.objects.run(self.apply), name="objects"),
                group.create_task(self.roll_out(), name="rollout"),
                group.create_task(self.keep_time(), name="clock"),
            ]
            await self.admin.start()
            await self.first_signals()
            await listen()
            self.show_health()
            # Last, since clients come with it.
            self.publish(self._catalog)
            await stop.wait()
            await self.drain()
            for task in tasks:
                task.cancel()


def run_picker(job: PickerJob) -> int:
    """The picker child of `stellwerk run`: serves Envoy over a Unix socket and writes Envoy's files."""
    config, paths = job.config, RuntimePaths(job.directory)
    log.configure(config.observability.log_format, config.observability.log_level)
    files, envoy = EnvoyFiles(paths), envoy_settings(config, paths)
    settings = extproc.ExtProcSettings(
        is_own_proxy=True, epoch=secrets.token_hex(4), limits=config.body, timeouts=config.timeouts
    )

    async def serve() -> None:
        picker = Picker(config, settings, partial(_write, files, envoy), lambda: _rejection(paths))
        server = GrpcServer({**picker.services(), **picker.health.services()}, config.transport, STANDING)
        try:
            await picker.run(lambda: server.listen_unix(paths.picker_socket))
            await server.drain(config.timeouts.drain_seconds)
        finally:
            await server.close()
            await picker.admin.close()

    return _run(serve)


def _write(files: EnvoyFiles, settings: EnvoySettings, catalog: Catalog, served: Mapping[str, tuple[str, ...]]) -> None:
    written = files.write(resources(catalog, settings, served))
    if written:
        _log.debug("Envoy's files written", extra={"fields": {"count": len(written)}})


def _rejection(paths: RuntimePaths) -> Iterator[str]:
    """What the supervisor noted of Envoy's last rejection."""
    with contextlib.suppress(OSError):
        yield Path(paths.directory, REJECTION_FILE).read_text()


def run_epp(config: Config) -> int:
    """The endpoint picker alone, until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)
    epp = config.epp
    settings = extproc.ExtProcSettings(
        is_own_proxy=False,
        epoch=secrets.token_hex(4),
        limits=config.body,
        timeouts=config.timeouts,
        pool_hint=epp.pool,
        accepts_steering=epp.accepts_steering,
        names_served=epp.accepts_steering,
    )

    async def serve() -> None:
        picker = Picker(config, settings, lambda catalog, served: None)
        health = picker.health.services()
        services = {**picker.services(), **(health if epp.has_health_on_grpc else {})}
        grpc, probes = GrpcServer(services, config.transport, STANDING), GrpcServer(health, config.transport)

        async def listen() -> None:
            tls = _tls(epp.cert_path) if epp.is_secure else None
            host, port = await grpc.listen_tcp(epp.grpc.host, epp.grpc.port, tls)
            await probes.listen_tcp(epp.health.host, epp.health.port)
            _log.info("picking on %s:%d", host, port, extra={"fields": {"listen": f"{host}:{port}"}})

        try:
            await picker.run(listen)
            await grpc.drain(config.timeouts.drain_seconds)
        finally:
            await grpc.close()
            await probes.close()
            await picker.admin.close()

    return _run(serve)


def _tls(directory: str | None) -> ssl.SSLContext:
    """A context for the ext_proc port; `directory` holds `tls.crt` and `tls.key`. Raises OSError."""
    from stellwerk.edge.grpc import tls

    if directory is None:
        return tls.self_signed()
    return tls.ServerCertificate(Path(directory, "tls.crt"), Path(directory, "tls.key")).context


def run_gateway(config: Config) -> int:
    """The gateway: supervises Envoy and the picker until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)

    async def serve() -> None:
        # Only to refuse a bad start before anything runs: the picker reads again, and it is the one to log.
        logging.getLogger("stellwerk.objects").disabled = True
        await ObjectSource(config.objects, config.servers, config.picker_config).load()
        binary = preflight.find_envoy()
        preflight.check_port(config.listen.host, config.listen.port)
        preflight.check_port(config.admin.host, config.admin.port, "--admin")
        with preflight.RuntimeDirectory() as paths:
            await supervise(config, paths, binary)

    return _run(serve)


async def supervise(config: Config, paths: RuntimePaths, binary: Path) -> None:
    """Run the two children until a signal comes."""
    envoy = envoy_settings(config, paths)
    # Envoy starts at once and answers 503 until the picker has written what the objects ask for.
    EnvoyFiles(paths).write(resources(Catalog(), envoy))
    job = Path(paths.directory) / "picker.json"
    job.write_bytes(msgspec.json.encode(PickerJob(config, paths.directory)))
    admin, envoy_log = EnvoyAdmin(paths.admin_socket), EnvoyLog()
    seconds = config.timeouts.drain_seconds

    async def drain_envoy() -> None:
        if not await drain(admin, seconds):
            _log.warning("requests still ran after %g s of draining and were cut off", seconds)

    async def picker_listens() -> None:
        # An Envoy that is there first would pass requests by the picker until it looks again.
        while not Path(paths.picker_socket).exists():  # noqa: ASYNC110, ASYNC240 - quick, and a socket tells no event
            await asyncio.sleep(0.01)

    supervisor = Supervisor(
        [
            Program("envoy", command(binary, paths, drain_seconds=seconds), envoy_log, before=picker_listens),
            Program("picker", (sys.executable, "-m", "stellwerk.app", "picker", str(job))),
        ],
        drain_envoy,
    )
    watch = asyncio.create_task(
        EnvoyWatch(admin, envoy_log, partial(_report_rejection, paths)).run(), name="envoy watch"
    )
    announce = asyncio.create_task(_announce(config, admin), name="announce")
    try:
        await supervisor.run()
    finally:
        for task in (watch, announce):
            task.cancel()
        await asyncio.gather(watch, announce, return_exceptions=True)
        await admin.close()


def _report_rejection(paths: RuntimePaths, rejection: Rejection) -> None:
    """To the log, and to where the picker finds it for `/readyz`."""
    text = f"Envoy rejected {rejection.subscription} and keeps the last good state: {rejection.reason}"
    _log.error("%s", text)
    at = time.strftime("%H:%M:%S")
    Path(paths.directory, REJECTION_FILE).write_text(f"{at} {text}")


async def _announce(config: Config, admin: EnvoyAdmin) -> None:
    """One line when clients may come."""
    while not await admin.is_ready():  # noqa: ASYNC110 - Envoy tells no event
        await asyncio.sleep(0.05)
    listen = f"http://{config.listen.host}:{config.listen.port}"
    _log.info("ready for requests on %s, admin on http://%s:%d", listen, config.admin.host, config.admin.port)


def engine_settings(config: Config) -> EngineSettings:
    """The part of the configuration that the engine reads."""
    return EngineSettings(
        prefix_index_bytes=config.prefix_index_bytes,
        decisions_bytes=config.observability.decisions_bytes,
        emits_scores=config.emits_scores,
        lost_after_seconds=config.scraping.idle_interval_seconds + 2.0,
    )


def envoy_settings(config: Config, paths: RuntimePaths) -> EnvoySettings:
    """The part of the configuration that Envoy's files depend on."""
    return EnvoySettings(
        paths=paths,
        listen_host=config.listen.host,
        listen_port=config.listen.port,
        trusted_sources=config.trusted_sources,
        max_body_bytes=config.body.max_body_bytes,
        max_answer_bytes=config.body.max_answer_bytes,
        message_seconds=config.timeouts.proxy_message_seconds,
        max_override_seconds=config.timeouts.max_override_seconds,
        upstream_idle_seconds=config.timeouts.upstream_idle_seconds,
        client_idle_seconds=config.timeouts.client_idle_seconds,
        request_headers_seconds=config.timeouts.request_headers_seconds,
    )


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run to the end; what a user can mend is one line, or one per problem, and exit status 1."""
    try:
        uvloop.run(main())
    except (ObjectsInvalid, preflight.CannotStart, OSError, BaseExceptionGroup) as error:
        problem = _first_of(error)
        if not isinstance(problem, ObjectsInvalid | preflight.CannotStart | OSError):
            raise
        print(problem if isinstance(problem, ObjectsInvalid) else f"stellwerk: {problem}", file=sys.stderr)
        return 1
    return 0


def _first_of(problem: BaseException) -> BaseException:
    """The first leaf of a group; anything else is its own."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def main(arguments: Sequence[str]) -> int:
    """`python -m stellwerk.app picker JOB.json`: the supervisor's way to start the picker."""
    if len(arguments) != 2 or arguments[0] != "picker":
        print("this is started by `stellwerk run`; see `stellwerk --help`", file=sys.stderr)
        return 2
    return run_picker(msgspec.json.decode(Path(arguments[1]).read_bytes(), type=PickerJob))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
