"""Four bytes to a token: counting, ids, block hashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.sim import tokens


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_text_comes_back_from_its_ids(text: str) -> None:
    encoded = tokens.encode(text)
    assert tokens.count(encoded) == -(-len(text.encode()) // 4)
    assert tokens.from_ids(tokens.to_ids(encoded)) == encoded
    assert tokens.decode(encoded) == text


@pytest.mark.parametrize("ids", [[-1], [1 << 32], ["a"], [1.5], [None]])
def test_what_is_no_id_is_refused(ids: list[int]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        tokens.from_ids(ids)


def test_blocks_hash_alike_up_to_the_first_difference_and_only_under_the_same_seed() -> None:
    one = tokens.block_hashes(tokens.encode("a" * 64 + "b" * 64 + "c" * 63), 4, 1)
    other = tokens.block_hashes(tokens.encode("a" * 64 + "x" + "b" * 63 + "c" * 64), 4, 1)
    assert len(one) == len(other) + 0 == 12
    assert one[:4] == other[:4]
    assert not set(one[4:]) & set(other[4:])
    assert not set(one) & set(tokens.block_hashes(tokens.encode("a" * 64), 4, 2))


def test_a_block_that_is_not_full_has_no_hash() -> None:
    assert tokens.block_hashes(tokens.encode("a" * 15), 4, 0) != []
    assert tokens.block_hashes(tokens.encode("a" * 12), 4, 0) == []


def test_seeds_depend_on_every_part_and_its_borders() -> None:
    assert (
        len({tokens.seed_of("ab", "c"), tokens.seed_of("a", "bc"), tokens.seed_of("abc"), tokens.seed_of("abc", "")})
        == 4
    )
