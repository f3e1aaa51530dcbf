"""CPU of reading metrics pages: the scraper before simulated servers with pages as large as vLLM's, idle and busy."""

import asyncio
import time
from dataclasses import dataclass

import uvloop

from stellwerk.config import Scraping
from stellwerk.edge.scrape import Scraper
from stellwerk.model.endpoint import Endpoint
from tests.kit.processes import Sim, call, simulated_servers

SERVERS = 8


@dataclass(frozen=True)
class Result:
    """`cpu` in seconds of CPU per second and server; `rate` in pages per second and server."""

    load: str
    page_bytes: int
    rate: float
    cpu: float


def run(seconds: float = 8.0) -> list[Result]:
    """Idle servers, then servers that get a request all the time."""
    with simulated_servers(SERVERS, "--model", "llama", "--speed", "instant") as sim:
        page_bytes = len(call(f"{sim.urls[0]}/metrics").body)
        return [
            Result(load, page_bytes, *uvloop.run(measure(sim, seconds, is_busy)))
            for load, is_busy in (("idle", False), ("busy", True))
        ]


async def measure(sim: Sim, seconds: float, is_busy: bool) -> tuple[float, float]:
    """Pages and CPU seconds, each per second and server."""
    count = 0

    def report(event: object) -> None:
        nonlocal count
        count += 1

    scraper = Scraper(Scraping(), report)
    endpoints = [Endpoint(f"default/s:{port}", "s", "default", "127.0.0.1", port) for port in sim.ports]
    scraper.set_endpoints(endpoints)
    task = asyncio.create_task(scraper.run(), name="scraper")
    # Past the start, when every page and model list is read, and into the pace of this load.
    await asyncio.sleep(6.0)
    count, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        if is_busy:
            for endpoint in endpoints:
                scraper.busy(endpoint.key)
        await asyncio.sleep(0.02 if is_busy else seconds)
    share = 1 / (time.perf_counter() - started) / len(endpoints)
    used = time.process_time() - cpu
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return count * share, used * share


def table(results: list[Result]) -> str:
    """Markdown."""
    rows = ["| servers | page | pages per second and server | CPU per second and server |", "|---|---|---|---|"]
    return "\n".join(
        rows + [f"| {r.load} | {r.page_bytes / 1000:.0f} KB | {r.rate:.1f} | {r.cpu * 1000:.2f} ms |" for r in results]
    )
