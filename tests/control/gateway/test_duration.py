"""How long a rule may take, in whatever form the API server lets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.control.gateway.duration import seconds

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0.0), ("500ms", 0.5), ("1h30m", 5400.0), ("10s500ms", 10.5), ("5s1m", 65.0), ("1s1s", 2.0)],
)  # fmt: skip
def test_parts_add_up_in_any_order(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 99_999), st.sampled_from([*UNITS])), min_size=1, max_size=4))
def test_whatever_the_definitions_allow_is_understood(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert seconds(text) == pytest.approx(sum(number * UNITS[unit] for number, unit in parts))


@pytest.mark.parametrize("text", ["", "5", "1.5s", "-1s", "1d", "1s ", "100000s", "1s1s1s1s1s", "٣s", "infinity"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert seconds(text) is None
