"""Reads the metrics pages and model lists of all servers, each at its own pace and none at the expense of another.

One probe (a task) and one kept-alive connection for each endpoint. What a page says goes to `report` as `Sampled`,
`SampleFailed` or `ModelsListed`. The bytes of an answer are read by `telemetry.answer`, a page by `telemetry.dialects`,
the rhythm is `telemetry.pace`. An own client, since a scrape then costs a third of what it does with a general one.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import cast

from msgspec import Struct

from stellwerk.config import Scraping
from stellwerk.model.chance import Chance
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import ModelsListed, Sampled, SampleFailed
from stellwerk.telemetry import models
from stellwerk.telemetry.answer import Answer, AnswerReader, Broken
from stellwerk.telemetry.dialects import dialect_of, read
from stellwerk.telemetry.pace import Budget, Limits, Pace
from stellwerk.telemetry.render import Family, counter, gauge

Scraped = Sampled | SampleFailed | ModelsListed

_START_SPACING_SECONDS = 0.002
"""Between the first readings of new endpoints: thousands at once would be a burst."""
_TRUSTED_AT_ONCE = 256
_SUSPECT_AT_ONCE = 32
"""Servers that are new or whose last page failed share these places: they cannot hold up those that are well."""
_UNSEEN_COST = 2.0
"""What a reading costs in all, by what is measured of it: the loop and the kernel take as much again."""
_MODELS_PATH = "/v1/models"

_log = logging.getLogger("stellwerk.scrape")


class Failure(Struct, frozen=True, gc=False):
    """Why a page could not be read."""

    reason: str
    is_unreachable: bool = False


class Scraper:
    """Owner of all probes. Not thread-safe; everything happens on the loop that `run` runs on."""

    def __init__(
        self,
        settings: Scraping,
        report: Callable[[Scraped], None],
        *,
        chance: Chance | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.settings = settings
        self.report = report
        self.chance: Chance = chance or random.Random()
        self.budget = budget or Budget()
        self.limits = Limits(settings.busy_interval_seconds, settings.idle_interval_seconds)
        self.tally = Tally()
        self.trusted = asyncio.Semaphore(_TRUSTED_AT_ONCE)
        self.suspect = asyncio.Semaphore(_SUSPECT_AT_ONCE)
        self._probes: dict[str, _Probe] = {}
        self._group: asyncio.TaskGroup | None = None
        self._next_start = 0.0

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """From here on exactly these are read. An endpoint that only changed its labels goes on undisturbed."""
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        for key in [key for key, probe in self._probes.items() if not probe.is_for(wanted.get(key))]:
            self._probes.pop(key).stop()
        for key, endpoint in wanted.items():
            if key not in self._probes:
                self._probes[key] = _Probe(self, endpoint)
        if self._group is not None:
            self._start_new()

    def busy(self, key: str) -> None:
        """A request was just sent there: read its page soon. Cheap enough for every request."""
        probe = self._probes.get(key)
        if probe is not None and not probe.is_hinted:
            probe.hint()

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._start_new()
                await asyncio.Event().wait()
            finally:
                self._group = None

    def is_current(self, probe: "_Probe") -> bool:
        """Whether the probe's endpoint is still wanted: what comes late is dropped."""
        return self._probes.get(probe.endpoint.key) is probe

    def families(self) -> tuple[Family, ...]:
        """What reading costs and how it goes."""
        tally = self.tally
        outcomes = sorted(tally.pages.items())
        return (
            Family(
                "llm_d_epp_datalayer_poll_errors_total",
                "counter",
                "Metrics pages and model lists that could not be read.",
                ("source_type",),
                ((("metrics-data-source",), tally.failed_pages), (("models-data-source",), tally.failed_lists)),
            ),
            Family(
                "stellwerk_scrapes_total",
                "counter",
                "Readings of metrics pages by result.",
                ("result",),
                tuple(((result,), count) for result, count in outcomes),
            ),
            counter("stellwerk_scrape_bytes_total", "Bytes of metrics pages and model lists.", tally.read_bytes),
            counter("stellwerk_scrape_cpu_seconds_total", "CPU time spent on reading pages.", tally.cpu_seconds),
            gauge(
                "stellwerk_scrape_demand", "Share of a core that reading at full pace would take.", self.budget.demand
            ),
            gauge(
                "stellwerk_scrape_stretch",
                "Factor on all intervals that keeps reading affordable.",
                self.budget.stretch,
            ),
            gauge("stellwerk_scrape_endpoints", "Endpoints whose pages are read.", len(self._probes)),
        )

    def _start_new(self) -> None:
        assert self._group is not None
        now = asyncio.get_running_loop().time()
        for probe in self._probes.values():
            if probe.task is None:
                self._next_start = max(now, self._next_start + _START_SPACING_SECONDS)
                coroutine = probe.run(self._next_start - now)
                probe.task = self._group.create_task(coroutine, name=f"scrape {probe.endpoint.key}")


class Tally:
    """Plain counters over all probes."""

    def __init__(self) -> None:
        self.pages: dict[str, int] = {"ok": 0, "unreachable": 0, "failed": 0}
        self.failed_pages = 0
        self.failed_lists = 0
        self.read_bytes = 0
        self.cpu_seconds = 0.0


class _Probe:
    """One endpoint's reading, from its first page to its removal."""

    def __init__(self, scraper: Scraper, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.task: asyncio.Task[None] | None = None
        self.is_hinted = False
        self._scraper = scraper
        self._dialect = dialect_of(endpoint.engine)
        self._path = self._dialect.paths[0]
        self._pace = Pace(scraper.limits, scraper.budget, scraper.chance)
        self._connection: _Connection | None = None
        self._wake: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._read_at = 0.0
        self._models_due = 0.0
        self._adapters: frozenset[str] = frozenset()
        self._known: frozenset[str] = frozenset()
        """Models of the last list, and adapters that were running when it was read."""
        self._cost_seconds = 0.0
        self._was_well: bool | None = None

    def is_for(self, endpoint: Endpoint | None) -> bool:
        """Whether the endpoint is the same process at the same place."""
        own = self.endpoint
        return endpoint is not None and (endpoint.host, endpoint.port, endpoint.engine, endpoint.uid) == (
            own.host,
            own.port,
            own.engine,
            own.uid,
        )

    def hint(self) -> None:
        """The server got a request: bring its next reading forward."""
        self.is_hinted = True
        if self._timer is not None:
            due = self._read_at + self._pace.when_busy()
            if due < self._due:
                self._timer.cancel()
                self._arm(due)

    def stop(self) -> None:
        """Nothing is reported from here on."""
        self._pace.close()
        if self.task is not None:
            self.task.cancel()

    async def run(self, delay_seconds: float) -> None:
        """Read, wait, and so on, until cancelled."""
        try:
            while True:
                await self._sleep(delay_seconds)
                lane = self._scraper.trusted if self._was_well else self._scraper.suspect
                async with lane:
                    delay_seconds = await self._read_once()
        finally:
            self._pace.close()
            self._disconnect()

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        self._arm(loop.time() + seconds)
        try:
            await self._wake
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._wake = None

    def _arm(self, due: float) -> None:
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._awake)

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _read_once(self) -> float:
        """One page, and the model list when it is due; the delay until the next."""
        self.is_hinted = False
        self._cost_seconds = 0.0
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        try:
            outcome = await self._read_page()
            self._read_at = loop.time()
            is_unreachable = isinstance(outcome, SampleFailed) and outcome.is_unreachable
            self._deliver(outcome)
            if not is_unreachable and self._read_at >= self._models_due:
                await self._read_models()
        except Exception:  # noqa: BLE001 - the one door: a bug in reading or in what is told must not end all reading
            _log.exception("reading a page failed", extra={"fields": {"endpoint": self.endpoint.key}})
            self._disconnect()
            outcome = SampleFailed(self.endpoint.key, "internal error", False)
        took = self._read_at - started_at
        return self._settle(outcome, took)

    def _settle(self, outcome: "Sampled | SampleFailed", took_seconds: float) -> float:
        tally = self._scraper.tally
        seen = self._cost_seconds + (self._connection.take_cost() if self._connection else 0.0)
        cost = seen * _UNSEEN_COST
        tally.cpu_seconds += cost
        if isinstance(outcome, SampleFailed):
            tally.pages["unreachable" if outcome.is_unreachable else "failed"] += 1
            tally.failed_pages += 1
            self._note(outcome.error)
            return self._pace.after_failure()
        tally.pages["ok"] += 1
        self._note(None)
        sample = outcome.sample
        is_busy = self.is_hinted or bool(sample.running) or bool(sample.waiting)
        return self._pace.after_page(is_busy=is_busy, cost_seconds=cost, took_seconds=took_seconds)

    def _note(self, error: str | None) -> None:
        """Say when a server stops or starts to be readable, not each time."""
        is_well = error is None
        if is_well is self._was_well:
            return
        fields = {"endpoint": self.endpoint.key, "address": self.endpoint.address}
        if error is not None:
            _log.warning("metrics page not readable", extra={"fields": fields | {"error": error}})
        elif self._was_well is False:
            _log.info("metrics page readable again", extra={"fields": fields})
        self._was_well = is_well

    async def _read_page(self) -> Sampled | SampleFailed:
        failure = Failure("")
        for path in sorted(self._dialect.paths, key=lambda candidate: candidate != self._path):
            answer = await self._fetch(path, "text/plain;version=0.0.4, */*;q=0.1")
            if isinstance(answer, Failure):
                failure = answer
                break
            if answer.status == 200:
                started = time.perf_counter()
                sample = read(answer.body, self._dialect)
                self._cost_seconds += time.perf_counter() - started
                if sample is not None:
                    self._path = path
                    self._adapters = sample.running_adapters
                    if not self._adapters <= self._known:
                        self._models_due = 0.0
                    return Sampled(self.endpoint.key, sample)
            failure = Failure(_complaint(answer.status, path, self._dialect.name))
        return SampleFailed(self.endpoint.key, failure.reason, failure.is_unreachable)

    async def _read_models(self) -> None:
        self._models_due = self._read_at + self._scraper.settings.models_interval_seconds
        self._known |= self._adapters
        answer = await self._fetch(_MODELS_PATH, "application/json")
        if isinstance(answer, Failure) or answer.status != 200:
            # Triton has no such list: 404 is no fault.
            self._scraper.tally.failed_lists += isinstance(answer, Failure) or answer.status != 404
            return
        listed = models.read(answer.body)
        if isinstance(listed, models.Unreadable):
            self._scraper.tally.failed_lists += 1
            return
        self._known = self._adapters.union(listed)
        self._deliver(ModelsListed(self.endpoint.key, listed))

    def _deliver(self, event: Scraped) -> None:
        if self._scraper.is_current(self):
            started = time.perf_counter()
            self._scraper.report(event)
            self._cost_seconds += time.perf_counter() - started

    async def _fetch(self, path: str, accept: str) -> Answer | Failure:
        """One GET, within the timeout. A kept connection that the server has closed meanwhile is replaced once."""
        timeout = self._scraper.settings.timeout_seconds
        is_connected = False
        try:
            async with asyncio.timeout(timeout):
                while True:
                    is_fresh = self._connection is None or self._connection.is_closed
                    connection = self._connection if not is_fresh and self._connection else await self._connect()
                    is_connected = True
                    answer = await connection.get(path, accept)
                    if isinstance(answer, Broken):
                        self._disconnect()
                        if not is_fresh and not connection.has_answered:
                            continue
                        return Failure(answer.reason)
                    self._scraper.tally.read_bytes += len(answer.body)
                    if not answer.is_reusable:
                        self._disconnect()
                    return answer
        except TimeoutError:
            self._disconnect()
            what = "answer" if is_connected else "connection"
            return Failure(f"no {what} within {timeout:g} s", is_unreachable=not is_connected)
        except OSError as error:
            self._disconnect()
            return Failure(_reason(error), is_unreachable=not is_connected)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        limit = self._scraper.settings.max_page_bytes
        host = self.endpoint.address
        _, connection = await loop.create_connection(
            lambda: _Connection(loop, host, limit), self.endpoint.host, self.endpoint.port
        )
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._cost_seconds += self._connection.take_cost()
            self._connection.close()
            self._connection = None


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, max_body_bytes: int) -> None:
        self._loop = loop
        self._host = host
        self._max_body_bytes = max_body_bytes
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(max_body_bytes)
        self._waiter: asyncio.Future[Answer | Broken] | None = None
        self._cost_seconds = 0.0
        self.is_closed = False
        self.has_answered = False
        """Whether any byte of an answer to the last request came."""

    async def get(self, path: str, accept: str) -> Answer | Broken:
        """Ask, and wait for the whole answer."""
        if self._transport is None or self.is_closed:
            return Broken("closed")
        self._reader = AnswerReader(self._max_body_bytes)
        self._waiter = self._loop.create_future()
        self.has_answered = False
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\nUser-Agent: stellwerk\r\n\r\n"
        self._transport.write(request.encode())
        return await self._waiter

    def close(self) -> None:
        """At once; nothing is waited for."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def take_cost(self) -> float:
        """CPU seconds spent on reading since the last call."""
        cost, self._cost_seconds = self._cost_seconds, 0.0
        return cost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        started = time.perf_counter()
        self.has_answered = True
        if self._waiter is None or self._waiter.done():
            self.close()  # bytes that nobody asked for
            return
        self._settle(self._reader.feed(data))
        self._cost_seconds += time.perf_counter() - started

    def eof_received(self) -> None:
        self.is_closed = True
        self._settle(self._reader.eof())

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._settle(Broken(_reason(exc)) if isinstance(exc, OSError) else self._reader.eof())

    def _settle(self, answer: Answer | Broken | None) -> None:
        if answer is not None and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)


def _complaint(status: int, path: str, engine: str) -> str:
    if status == 200:
        return f"{path} has none of the {engine} metrics"
    if 300 <= status < 400:
        return f"{path} redirects (HTTP {status}), which is not followed"
    return f"{path} answers HTTP {status}"


def _reason(error: OSError) -> str:
    """The system's words for the error, without addresses."""
    return (os.strerror(error.errno) if error.errno else type(error).__name__).lower()
