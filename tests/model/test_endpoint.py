"""How an endpoint's address is written for Envoy."""

import pytest

from stellwerk.model.endpoint import Endpoint


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.0.0.1", "10.0.0.1:8000"), ("::1", "[::1]:8000"), ("fd00::a:1", "[fd00::a:1]:8000")],
)
def test_addresses_have_brackets_around_ipv6_only(host: str, address: str) -> None:
    assert Endpoint("default/a:8000", "a", "default", host, 8000).address == address
