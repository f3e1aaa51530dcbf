import pytest

from stellwerk.model.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", 0.0), ("3us", 3e-6), ("0s", 0.0)]
)
def test_durations_read_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1d", "1s2", "9" * 1000 + "s"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="200ms"):
        parse_duration(text)
