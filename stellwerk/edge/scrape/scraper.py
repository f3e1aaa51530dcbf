"""All probes: who is read, who no longer, and what reading costs in all."""

import asyncio
import random
from collections.abc import Callable, Iterable

from stellwerk.config import Scraping
from stellwerk.edge.scrape.probe import Common, Probe, Scraped, Tally
from stellwerk.model.chance import Chance
from stellwerk.model.endpoint import Endpoint
from stellwerk.telemetry.pace import Budget
from stellwerk.telemetry.render import Family, counter, gauge

_START_SPACING_SECONDS = 0.002
"""Between the first readings of new endpoints: thousands at once would be a burst."""


_LISTS_SECONDS = 2.0
_LISTS_SECONDS_PER_ENDPOINT = 0.02
"""Shortest time between two readings of all model lists that requests have asked for."""


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
        self._common = Common(settings, report, chance or random.Random(), budget or Budget())
        self._probes: dict[str, Probe] = {}
        self._group: asyncio.TaskGroup | None = None
        self._next_start = 0.0
        self._next_lists = 0.0

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """From here on exactly these are read. An endpoint that only changed its labels goes on undisturbed."""
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        for key in [key for key, probe in self._probes.items() if not probe.is_for(wanted.get(key))]:
            self._probes.pop(key).stop()
        for key, endpoint in wanted.items():
            if key not in self._probes:
                self._probes[key] = Probe(self._common, endpoint)
        if self._group is not None:
            self._start_new()

    def busy(self, key: str) -> None:
        """A request was just sent there: read its page soon. Cheap enough for every request."""
        probe = self._probes.get(key)
        if probe is not None and not probe.is_hinted:
            probe.hint()

    def ask_models(self) -> None:
        """A model was asked for that no server lists: it may just have been loaded. Bounded, since anybody can ask."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_lists:
            self._next_lists = now + max(_LISTS_SECONDS, _LISTS_SECONDS_PER_ENDPOINT * len(self._probes))
            for probe in self._probes.values():
                probe.ask_models()

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._start_new()
                await asyncio.Event().wait()
            finally:
                self._group = None

    @property
    def tally(self) -> Tally:
        """Counters over all probes."""
        return self._common.tally

    def families(self) -> tuple[Family, ...]:
        """What reading costs and how it goes."""
        tally, budget = self._common.tally, self._common.budget
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
            gauge("stellwerk_scrape_demand", "Share of a core that reading at full pace would take.", budget.demand),
            gauge(
                "stellwerk_scrape_stretch",
                "Factor on all intervals that keeps reading affordable.",
                budget.stretch,
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
