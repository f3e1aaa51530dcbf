"""A small closed-loop load client: workers that send one request after the other until told to stop."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp


def chat(model: str = "llama", prompt: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A chat completion request."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 4, **fields}


@dataclass
class Outcomes:
    """What the workers saw. `failures` are short texts, each with how often it came; `cut` counts answers that broke
    off after their first byte."""

    statuses: Counter[int] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    cut: int = 0

    @property
    def total(self) -> int:
        """Requests that ended, one way or the other."""
        return sum(self.statuses.values()) + sum(self.failures.values()) + self.cut


async def send(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], seen: Outcomes) -> None:
    """One POST, entered into `seen`."""
    got_first_byte = False
    try:
        async with session.post(url, json=body) as response:
            got_first_byte = True
            await response.read()
            seen.statuses[response.status] += 1
            seen.servers[response.headers.get("x-sim-server", "")] += 1
            if response.status != 200:
                seen.refusals[(await response.text())[:300]] += 1
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        if got_first_byte:
            seen.cut += 1
        else:
            seen.failures[f"{type(problem).__name__}: {problem}"] += 1


@asynccontextmanager
async def load(
    url: str, make_body: Callable[[int], Mapping[str, Any]], workers: int = 8, pause_seconds: float = 0.0
) -> AsyncIterator[Outcomes]:
    """Keep `workers` requests going for the duration of the block."""
    seen, stop, count = Outcomes(), asyncio.Event(), iter(range(1 << 62))

    async def work(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            await send(session, url, make_body(next(count)), seen)
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as group,
    ):
        for number in range(workers):
            group.create_task(work(session), name=f"load-{number}")
        try:
            yield seen
        finally:
            stop.set()


async def until(what: str, check: Callable[[], Any], seconds: float = 30.0) -> None:
    """Poll `check` on the event loop; AssertionError when the time is up."""
    for _ in range(int(seconds / 0.02)):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")


def digest(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()
