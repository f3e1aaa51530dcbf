"""A canary from standard objects: the weights hold, and the public name is what clients see."""

import asyncio
import math
from pathlib import Path

import pytest

from tests.kit.load import chat, load, until
from tests.kit.objects import canary, pool, servers_of
from tests.kit.processes import call, gateway, simulated_servers

pytestmark = pytest.mark.integration
REQUESTS = 10_000


def test_ten_thousand_requests_follow_weights_ninety_to_ten(tmp_path: Path) -> None:
    with simulated_servers(2, "--model", "base", "--lora", "v1", "--lora", "v2", "--speed", "instant") as sim:
        objects = [*servers_of(sim.ports), pool(), canary("food-review", {"v1": 90, "v2": 10})]
        (tmp_path / "objects.yaml").write_text("\n---\n".join(objects))
        with gateway("-f", str(tmp_path)) as running:
            url = f"{running.url}/v1/chat/completions"
            assert call(url, chat("food-review")).json()["model"] == "food-review"

            async def drive() -> None:
                async with load(url, lambda _: chat("food-review", max_tokens=1), workers=32) as seen:
                    await until("10,000 requests", lambda: seen.total >= REQUESTS, seconds=240)
                assert seen.statuses.keys() == {200}, seen
                assert not seen.failures

            before = _served(running.metrics())
            asyncio.run(drive())
            after = _served(running.metrics())
    first, second = after["v1"] - before.get("v1", 0), after["v2"] - before.get("v2", 0)
    total = first + second
    assert total >= REQUESTS
    chi_squared = (first - 0.9 * total) ** 2 / (0.9 * total) + (second - 0.1 * total) ** 2 / (0.1 * total)
    assert chi_squared < 15.1, f"{first} to {second}: p < {math.erfc(math.sqrt(15.1 / 2)):.4f}"


def _served(metrics: str) -> dict[str, float]:
    """Requests by target model, from the picker's metrics."""
    counts: dict[str, float] = {}
    for line in metrics.splitlines():
        if line.startswith("llm_d_epp_request_total{"):
            target = line.split('target_model_name="')[1].split('"')[0]
            counts[target] = counts.get(target, 0) + float(line.rsplit(" ", 1)[1])
    return counts
