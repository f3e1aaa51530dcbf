"""Durations, sizes and addresses as people write them; what is wrong is said with the remedy."""

import click
import pytest

from stellwerk.cli.options import Duration, Listen, Size
from stellwerk.config import Address


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50ms", 0.05),
        ("2s", 2.0),
        ("1m30s", 90.0),
        ("0.5", 0.5),
        ("1h", 3600.0),
        ("250us", 250e-6),
        ("1µs2ns", 1.002e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "1x", "1s2", "nan", "inf", "1e99"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="duration"):
        Duration().convert(text, None, None)


def test_no_time_at_all_is_a_duration_where_it_means_something() -> None:
    assert Duration(may_be_zero=True).convert("0s", None, None) == 0.0
    with pytest.raises(click.BadParameter, match="duration"):
        Duration(may_be_zero=True).convert("-1s", None, None)


@pytest.mark.parametrize(("text", "size"), [("16Mi", 16 * 1024**2), ("64k", 64_000), ("100", 100), ("1Gi", 1024**3)])
def test_sizes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5Mi", "x", "0", "i"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="size"):
        Size().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:80", Address("::1", 80)),
        (":9090", Address("127.0.0.1", 9090)),
        ("8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Listen().convert(text, None, None) == address


@pytest.mark.parametrize("text", ["", "host:", "a:b", "h:65536", "h:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="address"):
        Listen().convert(text, None, None)
