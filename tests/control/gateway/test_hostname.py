"""Which hostnames patterns cover, and which two patterns share."""

import pytest

from stellwerk.control.gateway.hostname import common, covers, most_specific


@pytest.mark.parametrize(
    ("listener", "route", "expected"),
    [
        ("*", "a.example.com", "a.example.com"),
        ("*", "*.example.com", "*.example.com"),
        ("a.example.com", "a.example.com", "a.example.com"),
        ("a.example.com", "b.example.com", None),
        ("*.example.com", "a.example.com", "a.example.com"),
        ("*.example.com", "a.b.example.com", "a.b.example.com"),
        ("*.example.com", "example.com", None),
        ("*.example.com", "badexample.com", None),
        ("*.example.com", "*.b.example.com", "*.b.example.com"),
        ("a.example.com", "*.example.com", "a.example.com"),
        ("*.a.com", "*.b.com", None),
    ],
)
def test_a_route_is_reached_by_what_its_hostnames_share_with_the_listeners(
    listener: str, route: str, expected: str | None
) -> None:
    assert common(listener, route) == expected
    assert common(route, listener) == expected


def test_a_wildcard_does_not_cover_a_wider_one() -> None:
    assert not covers("*.b.example.com", "*.example.com")
    assert covers("*.example.com", "*.b.example.com")


def test_the_most_specific_pattern_speaks_for_a_name() -> None:
    patterns = ("*", "*.com", "*.example.com", "a.example.com")
    assert most_specific(patterns, "a.example.com") == "a.example.com"
    assert most_specific(patterns, "b.example.com") == "*.example.com"
    assert most_specific(patterns, "example.com") == "*.com"
    assert most_specific(("*.com",), "example.org") is None
