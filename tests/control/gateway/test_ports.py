"""Ports of listeners inside a pod."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.gateway.ports import ADMIN_PORT, container_ports


def test_ports_without_privileges_stay_and_others_are_shifted() -> None:
    assert container_ports([80, 8080, 443, 80]) == {80: 10080, 443: 10443, 8080: 8080}


def test_a_shifted_port_gives_way_to_a_listener_that_has_it() -> None:
    assert container_ports([80, 10080]) == {80: 20080, 10080: 10080}


def test_the_admin_port_is_nobodys() -> None:
    assert container_ports([ADMIN_PORT])[ADMIN_PORT] != ADMIN_PORT


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, 65535) | st.sampled_from([80, 10080, 20080, 30080, ADMIN_PORT]), max_size=64))
def test_no_two_listeners_share_a_port_and_none_needs_privileges(ports: set[int]) -> None:
    mapped = container_ports(ports)
    assert mapped.keys() == ports
    assert len(set(mapped.values())) == len(ports)
    assert all(1024 <= port <= 65535 and port != ADMIN_PORT for port in mapped.values())
