"""One leads, others stand by, and never two at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stellwerk.control.kube.resource import LEASES
from stellwerk.edge.kube.client import ClientLimits
from stellwerk.edge.kube.lease import Election, LeasePace
from tests.kit.kube_api import KubeApi, kube_api
from tests.kit.loop import on_loop, until

PACE = LeasePace(lease_seconds=1, deadline_seconds=0.6, retry_seconds=0.05)
LIMITS = ClientLimits(connect_seconds=0.3, answer_seconds=0.3)


class Candidate:
    """An election that runs."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self.client = api.client(limits=LIMITS)
        self.election = Election(self.client, "epp", "default", name, PACE)
        self.told: list[bool] = []
        self.task = asyncio.create_task(self.election.run(self.told.append))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()


@contextmanager
def never_two(*candidates: Candidate) -> Iterator[None]:
    """Fails if two lead at one time."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(sum(candidate.election.is_leader for candidate in candidates))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
    assert max(seen) <= 1


@on_loop
async def test_one_of_two_leads_and_a_goodbye_hands_over_at_once() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        two = Candidate(api, "two")
        with never_two(one, two):
            await until(lambda: two.election.holder == "one")
            assert not two.election.is_leader
            began = asyncio.get_running_loop().time()
            await one.stop()
            await until(lambda: two.election.is_leader)
            assert asyncio.get_running_loop().time() - began < PACE.lease_seconds
        assert (one.told, two.told) == ([True, False], [True])
        assert api.objects(LEASES)["default", "epp"]["spec"]["leaseTransitions"] == 1
        await two.stop()
        assert api.objects(LEASES)["default", "epp"]["spec"]["holderIdentity"] == ""


@on_loop
async def test_a_silent_leader_is_replaced_and_knows_it_before() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        two = Candidate(api, "two")
        with never_two(one, two):
            await until(lambda: two.election.holder == "one")
            one.client.access = one.client.access.__class__("http://127.0.0.1:1")
            await until(lambda: two.election.is_leader)
            assert not one.election.is_leader
        await until(lambda: one.told == [True, False])
        await one.stop()
        await two.stop()


@on_loop
async def test_without_an_api_server_nobody_leads_for_long() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        api.lies.hangs = True
        await until(lambda: not one.election.is_leader, 3)
        await until(lambda: one.told == [True, False])
        assert one.election.counts.failures > 0
        api.lies.hangs = False
        await until(lambda: one.election.is_leader)
        await one.stop()


@on_loop
async def test_two_that_start_together_agree() -> None:
    async with kube_api() as api:
        candidates = [Candidate(api, f"{number}") for number in range(5)]
        with never_two(*candidates):
            await until(lambda: any(candidate.election.is_leader for candidate in candidates))
            await asyncio.sleep(0.3)
        for candidate in candidates:
            await candidate.stop()
