"""The demo's live table: who got what, seen from the clients and from the admin API."""

import asyncio
from typing import Any

import aiohttp
from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from stellwerk.demo.traffic import Traffic

REFRESH_SECONDS = 0.5


async def show(traffic: Traffic, admin_url: str, console: Console, hints: str) -> None:
    """Redraw until cancelled; off a terminal, the last state is printed once, at the end."""
    console.print("try this in another terminal:\n", style="bold")
    # As it stands, unwrapped, so that it can be copied.
    console.print(Text(hints), soft_wrap=True)
    console.print()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                live.update(Group(clients(traffic), servers(await pools(session, admin_url), traffic)), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


async def pools(session: aiohttp.ClientSession, admin_url: str) -> list[Any]:
    """`/api/pools`; empty while the picker is away."""
    try:
        async with session.get(f"{admin_url}/api/pools") as response:
            found: list[Any] = (await response.json())["pools"]
            return found
    except (aiohttp.ClientError, TimeoutError):
        return []


def clients(traffic: Traffic) -> Table:
    """A row per public model."""
    table = Table("model", "sent", "answered", "refused", "failed", "TTFT p50", "TTFT p99", title="clients", box=SIMPLE)
    for name, tally in traffic.tallies.items():
        refused = ", ".join(f"{status}: {count}" for status, count in sorted(tally.refused.items())) or "0"
        table.add_row(
            name,
            str(tally.sent),
            str(tally.ok),
            refused,
            str(tally.failed),
            milliseconds(tally.percentile(0.5)),
            milliseconds(tally.percentile(0.99)),
        )
    return table


def servers(pools: list[Any], traffic: Traffic) -> Table:
    """A row per endpoint: what it says of itself, and what each model's clients got from it."""
    table = Table(Column("endpoint", no_wrap=True), "health", "running", "waiting", "KV", title="servers", box=SIMPLE)
    for name in traffic.tallies:
        table.add_column(name, justify="right")
    for pool in pools:
        for endpoint in pool["endpoints"]:
            answers = (tally.servers[endpoint["address"]] for tally in traffic.tallies.values())
            table.add_row(
                endpoint["address"],
                endpoint["health"],
                number(endpoint["running"]),
                number(endpoint["waiting"]),
                number(endpoint["kv_use"], percent=True),
                *map(str, answers),
            )
    return table


def milliseconds(seconds: float | None) -> str:
    """`12 ms`, or a dash."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def number(value: float | None, percent: bool = False) -> str:
    """A whole number or percentage, or a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value * 100:.0f} %" if percent else f"{value:.0f}"
