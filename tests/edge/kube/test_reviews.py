"""Who may read the metrics: asked once, remembered for a while, closed when nobody answers."""

import asyncio

import pytest

from stellwerk.edge.kube.reviews import AccessReviewer, ReviewLimits, Verdict
from tests.kit.kube_api import KubeApi, kube_api
from tests.kit.loop import on_loop


def known(api: KubeApi) -> KubeApi:
    """One user who may, one who may not."""
    api.tokens = {"good": {"username": "prometheus", "groups": ["g"]}, "weak": {"username": "guest"}}
    api.allowed = {("prometheus", "/metrics")}
    return api


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        ("Bearer good", Verdict.ALLOWED),
        ("bearer good", Verdict.ALLOWED),
        ("Bearer weak", Verdict.FORBIDDEN),
        ("Bearer wrong", Verdict.UNAUTHENTICATED),
        ("Basic good", Verdict.UNAUTHENTICATED),
        ("Bearer ", Verdict.UNAUTHENTICATED),
        ("Bearer " + "x" * 20_000, Verdict.UNAUTHENTICATED),
        (None, Verdict.UNAUTHENTICATED),
    ],
)
def test_verdicts(header: str | None, verdict: Verdict) -> None:
    @on_loop
    async def ask() -> None:
        async with kube_api() as api:
            client = known(api).client()
            assert await AccessReviewer(client).review(header, "/metrics") is verdict
            await client.close()

    ask()


@on_loop
async def test_many_at_once_and_soon_after_are_one_question() -> None:
    async with kube_api() as api:
        client = known(api).client()
        reviewer = AccessReviewer(client)
        verdicts = await asyncio.gather(*(reviewer.review("Bearer good", "/metrics") for _ in range(10)))
        assert set(verdicts) == {Verdict.ALLOWED}
        assert len(api.requests) == 2
        assert await reviewer.review("Bearer good", "/metrics") is Verdict.ALLOWED
        assert len(api.requests) == 2
        assert await reviewer.review("Bearer good", "/debug") is Verdict.FORBIDDEN
        await client.close()


@on_loop
async def test_an_answer_is_forgotten_in_time_and_memory_is_bounded() -> None:
    async with kube_api() as api:
        client = known(api).client()
        reviewer = AccessReviewer(client, ReviewLimits(max_answers=3, allowed_seconds=0.0))
        for token in ["good", "good", *(f"t{number}" for number in range(10))]:
            await reviewer.review(f"Bearer {token}", "/metrics")
        assert len(api.requests) == 14
        assert len(reviewer._answers) == 3
        await client.close()


@on_loop
async def test_without_an_answer_nobody_gets_in_and_nothing_is_remembered() -> None:
    async with kube_api() as api:
        client = known(api).client()
        reviewer = AccessReviewer(client)
        api.lies.status = 503
        assert await reviewer.review("Bearer good", "/metrics") is Verdict.UNKNOWN
        api.lies.status = 0
        assert await reviewer.review("Bearer good", "/metrics") is Verdict.ALLOWED
        await client.close()
