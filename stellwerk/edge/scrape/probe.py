"""One endpoint's readings, one after the other: when, over which connection, and what is told of them."""

import asyncio
import logging
import time
from collections.abc import Callable

from msgspec import Struct

from stellwerk.config import Scraping
from stellwerk.edge.scrape.connection import Connection, reason
from stellwerk.model.chance import Chance
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import ModelsListed, Sampled, SampleFailed
from stellwerk.telemetry import models
from stellwerk.telemetry.answer import Answer, Broken
from stellwerk.telemetry.dialects import dialect_of, read
from stellwerk.telemetry.pace import Budget, Limits, Pace

Scraped = Sampled | SampleFailed | ModelsListed

_UNSEEN_COST = 2.0
"""What a reading costs in all, by what is measured of it: the loop and the kernel take as much again."""
_TRUSTED_AT_ONCE = 256
_SUSPECT_AT_ONCE = 32
"""Servers that are new or whose last page failed share these places: they cannot hold up those that are well."""
_MODELS_PATH = "/v1/models"

_log = logging.getLogger("stellwerk.scrape")


class Failure(Struct, frozen=True, gc=False):
    """Why a page could not be read."""

    reason: str
    is_unreachable: bool = False


class Tally:
    """Plain counters over all probes."""

    def __init__(self) -> None:
        self.pages: dict[str, int] = {"ok": 0, "unreachable": 0, "failed": 0}
        self.failed_pages = 0
        self.failed_lists = 0
        self.read_bytes = 0
        self.cpu_seconds = 0.0


class Common:
    """What all probes share: settings, where to tell, what it may cost, and the places in which to read."""

    def __init__(self, settings: Scraping, report: Callable[[Scraped], None], chance: Chance, budget: Budget) -> None:
        self.settings = settings
        self.report = report
        self.chance = chance
        self.budget = budget
        self.limits = Limits(settings.busy_interval_seconds, settings.idle_interval_seconds)
        self.tally = Tally()
        self.trusted = asyncio.Semaphore(_TRUSTED_AT_ONCE)
        self.suspect = asyncio.Semaphore(_SUSPECT_AT_ONCE)


class Probe:
    """One endpoint's reading, from its first page to its removal."""

    def __init__(self, common: Common, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.task: asyncio.Task[None] | None = None
        self.is_hinted = False
        """Whether a request was sent there since the last reading began."""
        self._common = common
        self._dialect = dialect_of(endpoint.engine)
        self._path = self._dialect.paths[0]
        self._pace = Pace(common.limits, common.budget, common.chance)
        self._connection: Connection | None = None
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

    def ask_models(self) -> None:
        """The model list may have changed: read it with the next page, and that one soon."""
        self._models_due = 0.0
        self.hint()

    def stop(self) -> None:
        """Nothing is reported from here on: a cancelled task does not go on from where it waits."""
        self._pace.close()
        if self.task is not None:
            self.task.cancel()

    async def run(self, delay_seconds: float) -> None:
        """Read, wait, and so on, until cancelled."""
        try:
            while True:
                await self._sleep(delay_seconds)
                lane = self._common.trusted if self._was_well else self._common.suspect
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

    def _settle(self, outcome: Sampled | SampleFailed, took_seconds: float) -> float:
        tally = self._common.tally
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
        self._models_due = self._read_at + self._common.settings.models_interval_seconds
        self._known |= self._adapters
        answer = await self._fetch(_MODELS_PATH, "application/json")
        if isinstance(answer, Failure) or answer.status != 200:
            # Triton has no such list: 404 is no fault.
            self._common.tally.failed_lists += isinstance(answer, Failure) or answer.status != 404
            return
        listed = models.read(answer.body)
        if isinstance(listed, models.Unreadable):
            self._common.tally.failed_lists += 1
            return
        self._known = self._adapters.union(listed)
        self._deliver(ModelsListed(self.endpoint.key, listed))

    def _deliver(self, event: Scraped) -> None:
        started = time.perf_counter()
        self._common.report(event)
        self._cost_seconds += time.perf_counter() - started

    async def _fetch(self, path: str, accept: str) -> Answer | Failure:
        """One GET, within the timeout. A kept connection that the server has closed meanwhile is replaced once."""
        timeout = self._common.settings.timeout_seconds
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
                    self._common.tally.read_bytes += len(answer.body)
                    if not answer.is_reusable:
                        self._disconnect()
                    return answer
        except TimeoutError:
            self._disconnect()
            what = "answer" if is_connected else "connection"
            return Failure(f"no {what} within {timeout:g} s", is_unreachable=not is_connected)
        except OSError as error:
            self._disconnect()
            return Failure(reason(error), is_unreachable=not is_connected)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        limit = self._common.settings.max_page_bytes
        host = self.endpoint.address
        _, connection = await loop.create_connection(
            lambda: Connection(loop, host, limit), self.endpoint.host, self.endpoint.port
        )
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._cost_seconds += self._connection.take_cost()
            self._connection.close()
            self._connection = None


def _complaint(status: int, path: str, engine: str) -> str:
    if status == 200:
        return f"{path} has none of the {engine} metrics"
    if 300 <= status < 400:
        return f"{path} redirects (HTTP {status}), which is not followed"
    return f"{path} answers HTTP {status}"
