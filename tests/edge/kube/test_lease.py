"""One leads, others stand by, and never two at once."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from stellwerk.control.kube.resource import LEASES
from stellwerk.edge.kube.client import ClientLimits
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.lease import Election, LeasePace
from tests.kit.kube_api import KubeApi, kube_api
from tests.kit.loop import on_loop, until

PACE = LeasePace(lease_seconds=1, deadline_seconds=0.6, retry_seconds=0.05)
LIMITS = ClientLimits(connect_seconds=0.3, answer_seconds=0.3)
LEADS, LED_LAST, FOLLOWS = (True, True), (False, True), (False, False)


class Candidate:
    """An election that runs."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self.client = api.client(limits=LIMITS)
        self.election = Election(self.client, "epp", "default", name, PACE)
        self.told: list[tuple[bool, bool]] = []
        """Whether it leads, and whether it led last, whenever that was news."""
        self.task = asyncio.create_task(self.election.run(self.look))

    def look(self) -> None:
        self.told.append((self.election.is_leader, self.election.led_last))

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
        assert (one.told, two.told) == ([LEADS, FOLLOWS], [LEADS])
        assert api.objects(LEASES)["default", "epp"]["spec"]["leaseTransitions"] == 1
        await two.stop()
        assert api.objects(LEASES)["default", "epp"]["spec"]["holderIdentity"] == ""


@on_loop
async def test_a_leader_that_is_cut_off_stops_writing_first_and_serving_when_another_renews() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        two = Candidate(api, "two")
        with never_two(one, two):
            await until(lambda: two.election.holder == "one")
            access = one.client.access
            one.client.access = access.__class__("http://127.0.0.1:1")
            await until(lambda: two.election.is_leader)
            assert not one.election.is_leader
            await until(lambda: one.told == [LEADS, LED_LAST])
            one.client.access = access
            await until(lambda: one.told == [LEADS, LED_LAST, FOLLOWS])
            assert one.election.holder == "two"
        await one.stop()
        await two.stop()


@on_loop
async def test_without_an_api_server_the_last_leader_stops_writing_and_serves_on() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        two = Candidate(api, "two")
        await until(lambda: two.election.holder == "one")
        api.lies.hangs = True
        await until(lambda: one.told == [LEADS, LED_LAST], 3)
        await asyncio.sleep(PACE.lease_seconds + 0.5)
        assert one.election.led_last
        assert not two.election.led_last
        assert one.election.counts.failures > 0
        api.lies.hangs = False
        await until(lambda: one.election.is_leader or two.election.is_leader)
        await until(lambda: one.election.led_last != two.election.led_last)
        await one.stop()
        await two.stop()


@on_loop
async def test_a_record_out_of_a_backup_closes_nobody() -> None:
    async with kube_api() as api:
        one = Candidate(api, "one")
        await until(lambda: one.election.is_leader)
        lease = api.objects(LEASES)["default", "epp"]
        api.put(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "of last week"}})
        await until(lambda: one.election.holder == "of last week")
        await until(lambda: one.election.is_leader)
        assert FOLLOWS not in one.told
        await one.stop()


@on_loop
async def test_a_lease_won_by_a_write_whose_answer_was_lost_is_ours() -> None:
    async with kube_api() as api:
        candidate = Candidate(api, "one")
        candidate.task.cancel()
        election = candidate.election
        await election._write(None)
        election.led_last = False
        api.lies.write_status = 503
        with contextlib.suppress(ApiError):
            await election._take()
        assert election.holder == "one"
        assert election.led_last
        await candidate.stop()


@on_loop
async def test_two_that_start_together_agree() -> None:
    async with kube_api() as api:
        candidates = [Candidate(api, f"{number}") for number in range(5)]
        with never_two(*candidates):
            await until(lambda: any(candidate.election.is_leader for candidate in candidates))
            await asyncio.sleep(0.3)
        for candidate in candidates:
            await candidate.stop()
