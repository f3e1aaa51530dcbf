"""KV blocks: what is held, found again, evicted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.sim.blocks import BlockPool


def sealed(pool: BlockPool, *hashes: int) -> list[int]:
    """Take a block per hash and seal it."""
    blocks = pool.take((), len(hashes))
    assert blocks is not None
    for block, block_hash in zip(blocks, hashes, strict=True):
        pool.seal(block, block_hash)
    return blocks


def test_a_released_prefix_is_found_again_and_counts_as_free() -> None:
    pool = BlockPool(4)
    blocks = sealed(pool, 11, 12, 13)
    assert (pool.used, pool.available) == (3, 1)
    pool.release(blocks)
    assert (pool.used, pool.available) == (0, 4)
    assert pool.match([11, 12, 99], 9) == blocks[:2]
    assert pool.match([11, 12, 13], 1) == blocks[:1]
    assert pool.match([12], 9) == [blocks[1]]


def test_a_shared_block_is_free_only_when_its_last_holder_lets_go() -> None:
    pool = BlockPool(2)
    first = sealed(pool, 7)
    again = pool.take(pool.match([7], 1), 1)
    assert again is not None
    assert pool.used == 2
    pool.release(first)
    assert pool.used == 2
    pool.release(again)
    assert pool.used == 0
    pool.check()


def test_memory_that_is_short_changes_nothing() -> None:
    pool = BlockPool(3)
    held = sealed(pool, 1, 2)
    assert pool.take(held[:1], 2) is None
    assert pool.used == 2
    pool.check()


def test_idle_prefix_blocks_that_are_wanted_cannot_also_be_evicted_for_the_rest() -> None:
    pool = BlockPool(3)
    pool.release(sealed(pool, 1, 2, 3))
    assert pool.take(pool.match([1, 2], 2), 2) is None
    taken = pool.take(pool.match([1, 2], 2), 1)
    assert taken is not None
    assert len(set(taken)) == 3
    assert pool.match([3], 1) == []


def test_the_oldest_idle_block_goes_first_and_a_prefix_outlives_its_tail() -> None:
    pool = BlockPool(4)
    pool.release(sealed(pool, 1, 2))
    pool.release(sealed(pool, 3, 4))
    pool.take((), 1)
    assert [h for h in (1, 2, 3, 4) if pool.match([h], 1)] == [1, 3, 4]
    pool.take((), 1)
    assert [h for h in (1, 2, 3, 4) if pool.match([h], 1)] == [3, 4]
    assert pool.evictions == 2


def test_the_first_block_with_a_hash_keeps_it() -> None:
    pool = BlockPool(2)
    first, second = sealed(pool, 5), sealed(pool, 5)
    assert pool.match([5], 1) == first
    pool.release(first)
    pool.release(second)
    pool.check()


def test_releasing_twice_is_noticed_by_check() -> None:
    pool = BlockPool(2)
    blocks = pool.take((), 1)
    assert blocks is not None
    pool.release(blocks)
    pool.release(blocks)
    with pytest.raises(AssertionError):
        pool.check()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(0, 12), max_size=5, unique=True), st.integers(0, 4)),
        max_size=60,
    )
)
def test_blocks_are_conserved_whatever_is_taken_and_released(moves: list[tuple[int, list[int], int]]) -> None:
    pool = BlockPool(9)
    holdings: list[list[int]] = []
    for move, hashes, number in moves:
        if move == 0:
            cached = pool.match(hashes, len(hashes))
            taken = pool.take(cached, number)
            if taken is not None:
                for block, block_hash in zip(taken[len(cached) :], hashes[len(cached) :], strict=False):
                    pool.seal(block, block_hash)
                holdings.append(taken)
        elif holdings:
            pool.release(holdings.pop(number % len(holdings)))
        pool.check()
        assert pool.used == len({block for held in holdings for block in held})
        assert pool.used + pool.available == 9
