import pytest

from stellwerk.schedule.blocks import (
    FINE_BLOCKS,
    LONG,
    MAX_HASHES,
    SPAN,
    chain,
    chains,
    count_of,
    seed_of,
    size_of,
    size_of_all,
)


def test_equal_beginnings_have_equal_hashes_up_to_the_block_that_differs() -> None:
    shared = bytes(range(256)) * 3
    one, other = chain(shared + b"a" * 256, 1, 256, 100), chain(shared + b"b" * 256, 1, 256, 100)
    assert one[:3] == other[:3]
    assert one[3] != other[3]


def test_an_equal_block_behind_another_beginning_has_another_hash() -> None:
    assert chain(b"a" * 256 + b"z" * 256, 1, 256, 9)[1] != chain(b"b" * 256 + b"z" * 256, 1, 256, 9)[1]


def test_a_short_last_block_counts() -> None:
    assert len(chain(b"x" * 257, 1, 256, 9)) == 2
    assert len(chain(b"x", 1, 256, 9)) == 1
    assert chain(b"", 1, 256, 9) == []


def test_views_hash_like_bytes_and_the_limit_holds() -> None:
    text = bytes(range(256)) * 8
    assert chain(memoryview(b"head" + text)[4:], 7, 256, 5) == chain(text, 7, 256, 99)[:5]


def test_models_and_salts_do_not_share() -> None:
    assert len({seed_of("a", b""), seed_of("b", b""), seed_of("a", b"s"), seed_of("as", b"")}) == 4


def test_many_prompts_are_bounded_together() -> None:
    found = chains([b"x"] * (2 * MAX_HASHES), 1, 256, 2048)
    assert sum(map(len, found)) == MAX_HASHES
    assert chains([b"", b"y"], 1, 256, 9) == [chain(b"y", 1, 256, 9)]


def test_behind_the_beginning_one_hash_stands_for_several_blocks_and_says_so() -> None:
    text = bytes(range(256)) * (FINE_BLOCKS + 2 * SPAN) + b"rest"
    hashes = chain(text, 1, 256, 1000)
    assert [each & LONG for each in hashes] == [0] * FINE_BLOCKS + [LONG] * 3
    assert size_of_all(hashes) == size_of(len(hashes)) == FINE_BLOCKS + 3 * SPAN
    assert chain(text[: 256 * FINE_BLOCKS], 1, 256, 1000) == hashes[:FINE_BLOCKS]
    other = chain(text[: 256 * (FINE_BLOCKS + SPAN)] + b"other", 1, 256, 1000)
    assert other[: FINE_BLOCKS + 1] == hashes[: FINE_BLOCKS + 1]
    assert other[FINE_BLOCKS + 1] != hashes[FINE_BLOCKS + 1]


@pytest.mark.parametrize("beyond", range(-1, 2 * SPAN + 1))
def test_a_limit_never_cuts_a_long_block_whatever_the_prompt_is_kept_in(beyond: int) -> None:
    text = bytes(range(256)) * (FINE_BLOCKS + 4 * SPAN)
    limit = FINE_BLOCKS + beyond
    hashes = chain(text, 1, 256, limit)
    assert hashes == chain(memoryview(text), 1, 256, limit) == chain(text, 1, 256, 1000)[: count_of(limit)]
    assert limit <= size_of(len(hashes)) < limit + SPAN
    assert count_of(size_of(len(hashes))) == len(hashes)
