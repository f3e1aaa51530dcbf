import gc
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.schedule.prefix import PrefixIndex

ALL = (1 << 64) - 1

# An even number is the hash of one block, an odd one of `SPAN` (`blocks`).


def index(max_bytes: int = 1 << 30) -> PrefixIndex:
    return PrefixIndex(max_bytes)


def matches(which: PrefixIndex, hashes: list[int], among: int = ALL) -> dict[int, int]:
    """Slot to matched blocks."""
    found = which.match(hashes, among)
    return {slot: count for count, mask in found for slot in range(mask.bit_length()) if mask >> slot & 1}


def test_servers_match_as_many_blocks_as_they_were_sent() -> None:
    blocks = index()
    a, b, c = (blocks.join(100) for _ in range(3))
    blocks.record(a, [1, 2, 3, 4])
    blocks.record(b, [1, 2, 9])
    assert matches(blocks, [1, 2, 3, 5]) == {a: 3, b: 2}
    assert matches(blocks, [7]) == {}
    assert matches(blocks, [1, 2], 1 << b) == {b: 2}
    assert matches(blocks, [1, 2], 1 << c) == {}
    assert matches(blocks, [1, 2], 0) == {}


def test_a_block_behind_a_gap_does_not_count() -> None:
    blocks = index()
    a, b = blocks.join(100), blocks.join(100)
    blocks.record(a, [1, 2, 3])
    blocks.record(b, [1, 3])
    assert matches(blocks, [1, 2, 3]) == {a: 3, b: 1}


def test_the_blocks_unused_for_longest_go_first_and_the_deepest_of_them_before_their_beginning() -> None:
    blocks = index()
    a = blocks.join(6)
    blocks.record(a, [2, 4, 6])
    blocks.record(a, [22, 24, 26])
    blocks.record(a, [42, 44])
    assert matches(blocks, [2, 4, 6]) == {a: 1}
    assert matches(blocks, [22, 24, 26]) == {a: 3}
    assert matches(blocks, [42, 44]) == {a: 2}
    assert blocks.blocks_of(a) == 6


def test_a_block_used_again_outlives_one_that_was_not() -> None:
    blocks = index()
    a = blocks.join(4)
    blocks.record(a, [2, 4])
    blocks.record(a, [22, 24])
    blocks.record(a, [2, 4], 2)
    blocks.record(a, [42, 44])
    assert matches(blocks, [2, 4]) == {a: 2}
    assert matches(blocks, [22, 24]) == {}


def test_a_prompt_longer_than_the_cache_keeps_its_beginning() -> None:
    blocks = index()
    a = blocks.join(10)
    blocks.record(a, list(range(2, 102, 2)))
    assert matches(blocks, list(range(2, 102, 2))) == {a: 10}


def test_one_servers_eviction_leaves_anothers_blocks_alone() -> None:
    blocks = index()
    a, b = blocks.join(2), blocks.join(100)
    blocks.record(a, [2, 4])
    blocks.record(b, [2, 4])
    blocks.record(a, [6, 8])
    assert matches(blocks, [2, 4]) == {b: 2}


def test_a_server_that_leaves_matches_nothing_and_its_slot_starts_empty() -> None:
    blocks = index()
    a, b = blocks.join(10_000), blocks.join(100)
    blocks.record(a, list(range(5000)))
    blocks.record(b, [0, 1])
    blocks.leave(a)
    assert matches(blocks, [0, 1, 2], 1 << b) == {b: 2}
    seen = set()
    for _ in range(20):
        slot = blocks.join(100)
        assert matches(blocks, list(range(5000)), 1 << slot) == {}
        seen.add(slot)
    assert a in seen
    assert blocks.block_count == 2


def test_a_smaller_cache_forgets_at_once() -> None:
    blocks = index()
    a = blocks.join(100)
    blocks.record(a, list(range(0, 100, 2)))
    blocks.resize(a, 10)
    assert matches(blocks, list(range(0, 100, 2))) == {a: 10}


def test_a_hash_that_stands_for_several_blocks_takes_their_place_in_the_cache() -> None:
    blocks = index()
    a = blocks.join(6)
    blocks.record(a, [2, 4, 5])
    assert matches(blocks, [2, 4, 5]) == {a: 3}
    blocks.record(a, [12])
    assert matches(blocks, [2, 4, 5]) == {a: 2}, "5 went, and left room for four"
    blocks.record(a, [22, 24, 26])
    assert (matches(blocks, [2, 4]), blocks.blocks_of(a)) == ({a: 2}, 6)
    blocks.record(a, [31])
    assert (matches(blocks, [31]), blocks.blocks_of(a)) == ({a: 1}, 6)


@pytest.mark.parametrize("servers", [1, 8, 200])
@pytest.mark.parametrize("max_bytes", [300_000, 3_000_000])
def test_memory_stays_within_the_bound_and_the_count_does_not_lie(servers: int, max_bytes: int) -> None:
    chance = random.Random(servers)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        blocks = index(max_bytes)
        slots = [blocks.join(31_250) for _ in range(servers)]
        held = blocks.bytes
        shared = [chance.getrandbits(64) for _ in range(40)]
        for _ in range(3 * max_bytes // 200 // 50):
            mine = [int(str(each)) for each in shared]  # objects of its own, as each request has
            blocks.record(chance.choice(slots), [*mine, *(chance.getrandbits(64) for _ in range(50))])
            assert blocks.bytes <= max(max_bytes, held)
        del shared
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= 1.02 * blocks.bytes + 10_000
    assert blocks.block_count > 100 or servers == 200


def test_the_byte_bound_takes_from_those_who_have_not_from_the_newcomer_alone() -> None:
    blocks = index(200_000)
    old, new = blocks.join(31_250), blocks.join(31_250)
    for start in range(0, 50_000, 50):
        blocks.record(old, list(range(start, start + 50)))
    fresh = [list(range(-start - 50, -start)) for start in range(0, 500, 50)]
    for hashes in fresh:
        blocks.record(new, hashes)
    assert matches(blocks, fresh[-1]) == {new: 50}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_index_agrees_with_a_plain_one_over_random_histories(data: st.DataObject) -> None:
    """Without pressure on capacity or bytes, a server holds exactly what it was sent since it joined."""
    blocks = index()
    plain: dict[int, set[int]] = {}
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["join", "record", "record", "record", "leave"]))
        if action == "join":
            slot = blocks.join(10_000)
            assert slot not in plain
            plain[slot] = set()
        elif plain:
            slot = data.draw(st.sampled_from(sorted(plain)))
            if action == "leave":
                blocks.leave(slot)
                del plain[slot]
            else:
                hashes = data.draw(st.lists(st.integers(0, 12), max_size=8))
                blocks.record(slot, hashes)
                plain[slot].update(hashes)
        asked = data.draw(st.lists(st.integers(0, 12), max_size=6))
        expected = {slot: _leading(asked, held) for slot, held in plain.items()}
        found = matches(blocks, asked, sum(1 << slot for slot in plain))
        assert found == {slot: count for slot, count in expected.items() if count}


def _leading(hashes: list[int], held: set[int]) -> int:
    for count, each in enumerate(hashes):
        if each not in held:
            return count
    return len(hashes)
