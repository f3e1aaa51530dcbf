"""Objects change a thousand times under load, well, badly and half-written: no request notices."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.kit.load import chat, load, until
from tests.kit.objects import canary, pool, servers_of
from tests.kit.processes import Gateway, gateway, simulated_servers, wait_until

pytestmark = pytest.mark.integration
RELOADS = 1_000


@pytest.mark.timeout(600)
def test_a_thousand_reloads_good_bad_and_half_written_fail_no_request(tmp_path: Path) -> None:
    rng = random.Random(7)
    with simulated_servers(3, "--model", "base", "--lora", "v1", "--lora", "v2", "--speed", "instant") as sim:
        path = tmp_path / "objects.yaml"

        def good(number: int) -> str:
            ports = sim.ports[: 2 + number % 2]
            weight = 1 + number % 99
            return "\n---\n".join([*servers_of(ports), pool(), canary("chat", {"v1": weight, "v2": 100 - weight})])

        def write(number: int) -> None:
            match rng.randrange(4):
                case 0:
                    path.write_text(good(number))
                case 1:
                    fresh = path.with_suffix(".new")
                    fresh.write_text(good(number))
                    fresh.rename(path)
                case 2:
                    path.write_text(half_of(good(number), rng))
                case _:
                    path.write_text(good(number).replace("weight", "wieght"))

        path.write_text(good(0))
        with gateway("-f", str(tmp_path)) as running:

            async def drive() -> None:
                url = f"{running.url}/v1/chat/completions"
                async with load(url, lambda _: chat("chat"), workers=4) as seen:
                    for number in range(RELOADS):
                        before = await asyncio.to_thread(readings, running)
                        write(number)
                        await asyncio.to_thread(
                            wait_until, "the file to be read", lambda before=before: readings(running) > before, 10.0
                        )
                    path.write_text("\n---\n".join([*servers_of(sim.ports[:1]), pool(), canary("renamed", {"v1": 1})]))
                    await until("the last state", lambda: "chat" in str(seen.refusals))
                assert not seen.failures, seen.failures
                assert not seen.cut
                assert set(seen.statuses) <= {200, 404}, (seen.statuses, seen.refusals)
                # 404 is right only after the last change took the name away.
                assert all("model_not_found" in text for text in seen.refusals), seen.refusals
                assert seen.statuses[404] < seen.statuses[200] / 10

            asyncio.run(drive())
            assert readings(running, "good") > RELOADS / 3
            assert readings(running, "bad") > RELOADS / 3


def half_of(text: str, rng: random.Random) -> str:
    """The file as it stands in the middle of being written: cut inside a brace. (Cut between two documents it would be
    a whole file that says less, and nobody could tell.)"""
    while True:
        half = text[: rng.randrange(len(text))]
        if half.count("{") > half.count("}"):
            return half


def readings(running: Gateway, result: str = "") -> float:
    """How often the objects were read, by the gateway's own count."""
    lines = (line for line in running.metrics().splitlines() if f'reloads_total{{result="{result}' in line)
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
