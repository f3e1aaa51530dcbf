"""Telling our wishes from what the API server made of them."""

from typing import Any

from stellwerk.control.gateway.difference import is_as_wanted, signed

WANTED = signed(
    {
        "metadata": {"name": "a", "labels": {"x": "1"}},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m"}}}]},
    }
)


def stored(**container: Any) -> dict[str, Any]:
    """As a server has it: with defaults, others' labels, and quantities in its own words."""
    return {
        "metadata": {**WANTED["metadata"], "uid": "u", "labels": {"x": "1", "others": "2"}},
        "spec": {
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m"}}, "image": "i", **container}],
            "dnsPolicy": "ClusterFirst",
        },
        "status": {"readyReplicas": 1},
    }


def test_defaults_and_what_others_add_are_no_difference() -> None:
    assert is_as_wanted(WANTED, stored())


def test_a_field_of_ours_that_was_changed_is_a_difference() -> None:
    assert not is_as_wanted(WANTED, stored(name="d"))


def test_a_field_that_we_no_longer_want_is_a_difference_by_the_digest() -> None:
    less = signed({"metadata": {"name": "a"}, "spec": {}})
    assert not is_as_wanted(less, stored())


def test_the_servers_way_to_say_the_same_is_no_difference_once_it_has_answered_so() -> None:
    actual = stored(resources={"limits": {"cpu": "1"}})
    assert not is_as_wanted(WANTED, actual)
    assert is_as_wanted(WANTED, actual, accepted=actual)
    assert not is_as_wanted(WANTED, stored(resources={"limits": {"cpu": "2"}}), accepted=actual)


def test_another_number_of_containers_is_a_difference() -> None:
    actual = stored()
    actual["spec"]["containers"].append({"name": "sidecar"})
    assert not is_as_wanted(WANTED, actual)
