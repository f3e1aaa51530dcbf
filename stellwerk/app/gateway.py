"""`stellwerk run`: a supervisor with two children, Envoy and the picker, joined by files and a Unix socket."""

import asyncio
import contextlib
import logging
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from stellwerk.app.picker import STANDING, Picker, Place
from stellwerk.app.running import files_of, running
from stellwerk.config import Config
from stellwerk.control.envoy.resources import Resources, resources
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.edge import extproc, log, preflight
from stellwerk.edge.envoy import EnvoyAdmin, EnvoyFiles, EnvoyLog, EnvoyWatch, Rejection, command, drain
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.supervisor import Program, Supervisor
from stellwerk.model.catalog import Catalog
from stellwerk.telemetry.render import Family, gauge

_log = logging.getLogger("stellwerk.gateway")
REJECTION_FILE = "envoy-rejection"


class PickerJob(Struct, frozen=True):
    """What the supervisor hands to the picker child, as JSON in a file."""

    config: Config
    directory: str
    """The runtime directory."""


def run_gateway(config: Config) -> int:
    """The gateway: supervises Envoy and the picker until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)

    async def serve() -> None:
        # Only to refuse a bad start before anything runs: the picker reads again, and it is the one to log.
        logging.getLogger("stellwerk.objects").disabled = True
        await files_of(config).load()
        binary = preflight.find_envoy()
        preflight.check_port(config.listen.host, config.listen.port)
        preflight.check_port(config.admin.host, config.admin.port, "--admin")
        with preflight.RuntimeDirectory() as paths:
            # Envoy starts at once and answers 503 until the picker has written what the objects ask for.
            first = resources(Catalog(), envoy_settings(config, paths))
            await supervise(config, paths, binary, first)

    return running(serve)


async def supervise(
    config: Config, paths: RuntimePaths, binary: Path, first: Resources, notice_seconds: float = 0.0
) -> None:
    """Run the two children until a signal comes. `first` is what Envoy starts with; for `notice_seconds` from the
    signal on it still accepts connections."""
    EnvoyFiles(paths).write(first)
    job = Path(paths.directory) / "picker.json"
    job.write_bytes(msgspec.json.encode(PickerJob(config, paths.directory)))
    admin, envoy_log = EnvoyAdmin(paths.admin_socket), EnvoyLog()
    seconds = config.timeouts.drain_seconds

    async def drain_envoy() -> None:
        if not await drain(admin, seconds, notice_seconds=notice_seconds):
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
    rejections = Rejections(paths)
    watch = asyncio.create_task(
        EnvoyWatch(admin, envoy_log, rejections.add, rejections.remove).run(), name="envoy watch"
    )
    announce = asyncio.create_task(_announce(config, admin), name="announce")
    try:
        await supervisor.run()
    finally:
        for task in (watch, announce):
            task.cancel()
        await asyncio.gather(watch, announce, return_exceptions=True)
        await admin.close()


class Rejections:
    """What Envoy refuses now: told to the log, and owner of the file in which the picker finds it."""

    def __init__(self, paths: RuntimePaths) -> None:
        self._path = Path(paths.directory, REJECTION_FILE)
        self._standing: dict[str, str] = {}

    def add(self, rejection: Rejection) -> None:
        """An update was refused, so Envoy goes on with the one before."""
        text = f"Envoy rejected {rejection.subscription} and keeps the last good state: {rejection.reason}"
        _log.error("%s", text)
        self._standing[rejection.subscription] = f"{time.strftime('%H:%M:%S')} {text}"
        self._write()

    def remove(self, subscription: str) -> None:
        """A later one was taken."""
        if self._standing.pop(subscription, None) is not None:
            _log.info("Envoy took %s again", subscription)
            self._write()

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(f"{each}\n" for each in self._standing.values()))
        fresh.rename(self._path)


async def _announce(config: Config, admin: EnvoyAdmin) -> None:
    """One line when clients may come."""
    while not await admin.is_ready():  # noqa: ASYNC110 - Envoy tells no event
        await asyncio.sleep(0.05)
    while config.gateway is None and not await admin.is_listening():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    listen = f"http://{config.listen.host}:{config.listen.port}"
    where = listen if config.gateway is None else f"the listeners of Gateway {config.gateway.name}"
    _log.info("ready for requests on %s, admin on http://%s:%d", where, config.admin.host, config.admin.port)


def run_picker(job: PickerJob) -> int:
    """The picker child of `stellwerk run`: serves Envoy over a Unix socket and writes Envoy's files."""
    config, paths = job.config, RuntimePaths(job.directory)
    log.configure(config.observability.log_format, config.observability.log_level)
    files, envoy = EnvoyFiles(paths), envoy_settings(config, paths)
    settings = extproc.ExtProcSettings(
        is_own_proxy=True, epoch=secrets.token_hex(4), limits=config.body, timeouts=config.timeouts
    )

    async def serve() -> None:
        place = Place(families=partial(rejection_families, paths))
        publish = partial(_write, files, envoy)
        picker = Picker(config, settings, files_of(config), publish, lambda: rejection(paths), place)
        server = GrpcServer({**picker.services(), **picker.health.services()}, config.transport, STANDING)
        try:
            await picker.run(lambda: server.listen_unix(paths.picker_socket))
            await server.drain(config.timeouts.drain_seconds)
        finally:
            await server.close()
            await picker.admin.close()

    return running(serve)


def _write(files: EnvoyFiles, settings: EnvoySettings, catalog: Catalog, served: Mapping[str, tuple[str, ...]]) -> None:
    written = files.write(resources(catalog, settings, served))
    if written:
        _log.debug("Envoy's files written", extra={"fields": {"count": len(written)}})


def rejection(paths: RuntimePaths) -> Iterator[str]:
    """What Envoy refuses now, as the supervisor noted it."""
    with contextlib.suppress(OSError):
        yield from Path(paths.directory, REJECTION_FILE).read_text().splitlines()


def rejection_families(paths: RuntimePaths) -> Iterator[Family]:
    """How much that is."""
    meaning = "Parts of its configuration (listeners, clusters, routes of a port) whose newest version Envoy refuses."
    yield gauge("stellwerk_envoy_rejections", meaning, sum(1 for _ in rejection(paths)))


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
