"""Names to addresses: last good answers, deadlines, no flapping."""

import asyncio
from collections.abc import Iterable

from stellwerk.edge.objects.dns import Names, chosen


class FakeResolver:
    """Answers from a table; an exception is raised, None never answers."""

    def __init__(self, answers: dict[str, list[str] | Exception | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Iterable[str]:
        self.asked.append(name)
        answer = self.answers[name]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


def test_answers_are_sorted_and_of_one_family() -> None:
    assert chosen(["10.0.0.10", "10.0.0.9", "::1", "10.0.0.9"]) == ("10.0.0.9", "10.0.0.10")
    assert chosen(["fd00::2", "fd00::1", "fe80::1%eth0"]) == ("fd00::1", "fd00::2")
    assert chosen([]) == ()


def test_a_reordered_answer_is_no_change() -> None:
    async def run() -> None:
        resolver = FakeResolver({"gpu": ["10.0.0.2", "10.0.0.1"]})
        names = Names(resolver, 1.0)
        assert await names.refresh(["gpu"])
        resolver.answers["gpu"] = ["10.0.0.1", "10.0.0.2"]
        assert not await names.refresh(["gpu"])
        assert names.addresses == {"gpu": ("10.0.0.1", "10.0.0.2")}

    asyncio.run(run())


def test_a_failure_keeps_the_last_good_answer() -> None:
    async def run() -> None:
        resolver = FakeResolver({"gpu": ["10.0.0.1"]})
        names = Names(resolver, 0.01)
        await names.refresh(["gpu"])
        answers: list[list[str] | Exception | None] = [OSError(2, "gone"), None, [], UnicodeError("label too long")]
        for answer in answers:
            resolver.answers["gpu"] = answer
            assert not await names.refresh(["gpu"])
            assert names.addresses == {"gpu": ("10.0.0.1",)}
            assert "gpu" in names.failing
        resolver.answers["gpu"] = ["10.0.0.2"]
        assert await names.refresh(["gpu"])
        assert names.failing == {}

    asyncio.run(run())


def test_one_slow_name_does_not_hold_up_the_others() -> None:
    async def run() -> None:
        names = Names(FakeResolver({"slow": None, "gpu": ["10.0.0.1"]}), 0.05)
        assert await names.refresh(["slow", "gpu"])
        assert names.addresses == {"gpu": ("10.0.0.1",)}

    asyncio.run(run())


def test_names_out_of_use_are_forgotten() -> None:
    async def run() -> None:
        names = Names(FakeResolver({"a": ["10.0.0.1"], "b": OSError("x")}), 1.0)
        await names.refresh(["a", "b"])
        names.keep({"b"})
        assert (dict(names.addresses), list(names.failing)) == ({}, ["b"])

    asyncio.run(run())
