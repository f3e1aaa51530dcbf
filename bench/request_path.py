"""CPU per request and latency of the request path: Envoy alone against Envoy with the picker, in one run.

Goals: docs/performance.md. CPU is what the kernel says each process used, divided by the requests of the cell. The
picker also reads the servers' metrics pages meanwhile, by the clock and not by the request: nothing is subtracted for
that, but its share is shown, as the picker itself estimates it.
"""

import asyncio
import json
from dataclasses import dataclass
from functools import partial

from bench.cpu import CpuMeter
from bench.driver import SERIAL, drive, request_bytes
from bench.setups import Setup, envoy_alone, foreign_gateway, other_picker, own_gateway
from tests.kit.processes import simulated_servers

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Cell:
    """One kind of request at one concurrency."""

    name: str
    body: bytes
    connections: int


@dataclass(frozen=True)
class Result:
    """One cell on one set-up. CPU in seconds per request, latencies in seconds."""

    setup: str
    cell: str
    connections: int
    requests_per_second: float
    cpu: dict[str, float]
    scraping: float
    """The part of the picker's CPU that went into reading metrics pages."""
    p50: float
    p99: float
    bad: int


def chat_body(size: int, start: str = "", **fields: object) -> bytes:
    """A chat completion of about `size` bytes, whose prompt begins with `start`."""
    text = (start + "The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[: max(1, size - 120)]
    return json.dumps(
        {"model": "llama", "messages": [{"role": "user", "content": text}], "max_tokens": 1, **fields}
    ).encode()


def cells() -> list[Cell]:
    """What is sent."""
    bodies = {f"{size} KB": chat_body(size * 1000) for size in (2, 40, 400)}
    bodies["400 KB, all new"] = chat_body(400_000, SERIAL.decode())
    bodies["SSE, 200 chunks"] = chat_body(500, stream=True, max_tokens=200, ignore_eos=True)
    return [Cell(name, body, connections) for name, body in bodies.items() for connections in (1, 64)]


def measure(setup: Setup, cell: Cell, seconds: float) -> Result:
    """Warm up, then run one cell."""
    request = request_bytes(CHAT, cell.body)
    asyncio.run(drive(setup.port, request, cell.connections, seconds / 4))
    scraping = setup.scraping_seconds()
    meter = CpuMeter(setup.pids.values())
    run = asyncio.run(drive(setup.port, request, cell.connections, seconds))
    cpu = {part: meter.used(pid) / run.requests for part, pid in setup.pids.items()}
    scraping = (setup.scraping_seconds() - scraping) / run.requests
    rate = run.requests / run.seconds
    latencies = run.percentile(0.5), run.percentile(0.99)
    return Result(setup.name, cell.name, cell.connections, rate, cpu, scraping, *latencies, run.bad)


def run(seconds: float, beside: str | None = None) -> list[Result]:
    """All set-ups, all cells, before the same servers. `beside`: the command of one more picker."""
    results = []
    makers = [envoy_alone, own_gateway, foreign_gateway]
    if beside is not None:
        makers.append(partial(other_picker, beside))
    with simulated_servers(4, "--model", "llama", "--speed", "instant", "--max-model-len", "1000000") as sim:
        for make in makers:
            with make(sim) as setup:
                for cell in cells():
                    result = measure(setup, cell, seconds)
                    results.append(result)
                    print(line(result), flush=True)
    return results


def line(result: Result) -> str:
    """One result for the terminal."""
    cpu = ", ".join(f"{part} {seconds * 1e6:,.0f} us" for part, seconds in result.cpu.items())
    cpu += f" (reading pages {result.scraping * 1e6:,.0f} us)" if result.scraping else ""
    bad = f", {result.bad} bad" if result.bad else ""
    return (
        f"{result.setup:32} {result.cell:16} x{result.connections:<3} {result.requests_per_second:8,.0f}/s  {cpu}"
        f"  p50 {result.p50 * 1e3:.2f} ms  p99 {result.p99 * 1e3:.2f} ms{bad}"
    )


def table(results: list[Result]) -> str:
    """Markdown: a row per cell, with what each set-up adds to Envoy alone."""
    alone = {(r.cell, r.connections): r for r in results if "picker" not in r.cpu}
    rows = [
        "| request | conns | set-up | requests/s | Envoy CPU | picker CPU | of it pages | added p50 | added p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: [c.name for c in cells()].index(r.cell) * 1000 + r.connections):
        base = alone[r.cell, r.connections]
        picker = f"**{r.cpu['picker'] * 1e6:,.0f} µs**" if "picker" in r.cpu else ""
        scraping = f"{r.scraping * 1e6:,.0f} µs" if r.scraping else ""
        added = (f"{(r.p50 - base.p50) * 1e3:.2f} ms", f"{(r.p99 - base.p99) * 1e3:.2f} ms") if picker else ("", "")
        rows.append(
            f"| {r.cell} | {r.connections} | {r.setup} | {r.requests_per_second:,.0f} | {r.cpu['envoy'] * 1e6:,.0f} µs "
            f"| {picker} | {scraping} | {added[0]} | {added[1]} |"
        )
    return "\n".join(rows)
