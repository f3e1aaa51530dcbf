"""Prefix affinity seen from outside: the servers' own cache hits rise against a run with the prefix weight at 0."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.kit.load import Outcomes, chat, send
from tests.kit.objects import picker_config
from tests.kit.processes import call, gateway, simulated_servers

pytestmark = pytest.mark.integration

PREFIXES = 20
ROUNDS = 10


def test_twenty_shared_prefixes_over_four_servers_hit_more_than_without_the_prefix_scorer(tmp_path: Path) -> None:
    with_prefix = hit_rate(tmp_path, queue_scorer=2, kv_cache_utilization_scorer=2, prefix_cache_scorer=3)
    without = hit_rate(tmp_path, queue_scorer=2, kv_cache_utilization_scorer=2, prefix_cache_scorer=0)
    assert with_prefix > without + 0.1, f"{with_prefix:.2f} with, {without:.2f} without"


def hit_rate(directory: Path, **weights: float) -> float:
    """Share of prompt tokens that the four servers found in their caches, by their own counters."""
    config = directory / "picker.yaml"
    config.write_text(picker_config(**weights))
    with simulated_servers(4, "--model", "llama", "--speed", "instant") as sim:
        servers = (part for url in sim.urls for part in ("--server", url))
        with gateway(*servers, "--config", str(config)) as running:
            asyncio.run(drive(f"{running.url}/v1/chat/completions"))
        pages = [call(f"{url}/metrics").body.decode() for url in sim.urls]
    return total(pages, "vllm:prefix_cache_hits_total") / total(pages, "vllm:prefix_cache_queries_total")


async def drive(url: str) -> None:
    """Each prefix asked again and again with other questions behind it, in shuffled order."""
    import aiohttp

    rng = random.Random(3)
    words = [f"w{number:04d}" for number in range(2_000)]
    prefixes = [" ".join(rng.choices(words, k=1_500)) for _ in range(PREFIXES)]
    seen = Outcomes()
    async with aiohttp.ClientSession() as session:
        for _ in range(ROUNDS):
            order = list(range(PREFIXES))
            rng.shuffle(order)
            for start in range(0, PREFIXES, 4):
                bodies = [chat("llama", f"{prefixes[n]} question {rng.random()}") for n in order[start : start + 4]]
                await asyncio.gather(*(send(session, url, body, seen) for body in bodies))
    assert seen.statuses.keys() == {200}, seen


def total(pages: list[str], family: str) -> float:
    """Sum of one counter over all servers."""
    return sum(
        float(line.rsplit(" ", 1)[1]) for page in pages for line in page.splitlines() if line.startswith(family + "{")
    )
