"""How long others are held up by what does not come."""

import asyncio

from stellwerk.edge.awaiting import Awaiting
from tests.kit.loop import on_loop


@on_loop
async def test_what_is_new_is_waited_for_once_and_only_for_so_long() -> None:
    woken = asyncio.Event()
    awaiting = Awaiting(woken.set, 0.05)
    assert not awaiting.is_worth_it([])
    assert awaiting.is_worth_it(["a"])
    assert awaiting.is_worth_it(["a", "b"]), "b shares a's time"
    async with asyncio.timeout(10):
        await woken.wait()
    assert not awaiting.is_worth_it(["a", "b"])
    assert not awaiting.is_worth_it(["a"]), "it had its time"
    assert awaiting.is_worth_it(["a", "c"]), "c had none"


@on_loop
async def test_who_came_and_is_missing_again_is_waited_for_again() -> None:
    woken = asyncio.Event()
    awaiting = Awaiting(woken.set, 0.02)
    assert awaiting.is_worth_it(["a"])
    async with asyncio.timeout(10):
        await woken.wait()
    assert not awaiting.is_worth_it(["a"])
    assert not awaiting.is_worth_it([])
    assert awaiting.is_worth_it(["a"])


@on_loop
async def test_nobody_is_woken_for_what_has_come() -> None:
    woken = asyncio.Event()
    awaiting = Awaiting(woken.set, 0.02)
    assert awaiting.is_worth_it(["a"])
    assert not awaiting.is_worth_it([])
    await asyncio.sleep(0.1)
    assert not woken.is_set()
