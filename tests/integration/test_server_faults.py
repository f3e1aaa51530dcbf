"""Model servers that die or wedge under load: clients must not notice more than they have to."""

import asyncio

import pytest

from tests.kit.load import chat, load, until
from tests.kit.processes import Gateway, Sim, gateway, simulated_servers

pytestmark = pytest.mark.integration


def test_one_of_three_servers_killed_under_load_fails_no_request_that_had_no_byte_yet() -> None:
    with (
        simulated_servers(1, "--model", "llama", "--speed", "instant") as doomed,
        simulated_servers(2, "--model", "llama", "--speed", "instant") as others,
    ):
        urls = [*doomed.urls, *others.urls]
        with gateway(*(part for url in urls for part in ("--server", url))) as running:

            async def drive() -> None:
                url = f"{running.url}/v1/chat/completions"
                async with load(url, lambda number: chat("llama", f"Hello {number}"), workers=8) as seen:
                    await until("traffic on all three", lambda: len(seen.servers) == 3 and seen.total > 300)
                    doomed.child.process.kill()
                    before = seen.total
                    await until("traffic to go on", lambda: seen.total > before + 600)
                assert seen.statuses.keys() == {200}, (seen.statuses, seen.refusals)
                assert not seen.failures, seen.failures
                # At most those whose answer had begun when the process died.
                assert seen.cut <= 8

            asyncio.run(drive())


def test_a_wedged_server_stops_being_picked_while_its_health_is_fine() -> None:
    with simulated_servers(3, "--model", "llama", "--speed", "instant") as sim:
        servers = (part for url in sim.urls for part in ("--server", url))
        with gateway(*servers) as running:
            asyncio.run(_wedge_one(sim, running))


async def _wedge_one(sim: Sim, running: Gateway) -> None:
    def is_noticed() -> bool:
        endpoints = (endpoint for pool in running.pools()["pools"] for endpoint in pool["endpoints"])
        return any(endpoint["health"] == "wedged" for endpoint in endpoints)

    async with load(
        f"{running.url}/v1/chat/completions", lambda number: chat("llama", f"Hello {number}"), 12, 0.01
    ) as seen:
        await until("traffic on all three", lambda: len(seen.servers) == 3)
        sim.fault(1, "wedge")
        await until("the wedged server to be noticed", is_noticed, seconds=40)
        stuck = seen.total
        await until("traffic to go on", lambda: seen.total > stuck + 200)
        sim.fault(1, "none")
