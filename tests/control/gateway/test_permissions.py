"""What is asked of the API server, as data."""

from stellwerk.control.gateway.permissions import CONTROLLER, GATEWAY, LEASE, rules


def test_nothing_is_granted_at_large() -> None:
    for rule in rules((*CONTROLLER, *GATEWAY, *LEASE)):
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert "escalate" not in rule["verbs"]
        assert "impersonate" not in rule["verbs"]


def test_gateway_pods_only_read_and_no_secrets() -> None:
    assert {verb for grant in GATEWAY for verb in grant.verbs} == {"list", "watch"}
    assert "secrets" not in {resource for grant in GATEWAY for resource in grant.resources}


def test_roles_beyond_a_namespace_are_bound_by_name_only() -> None:
    wide = [grant for grant in CONTROLLER if {"clusterroles", "clusterrolebindings"} & set(grant.resources)]
    assert wide
    assert all(grant.names for grant in wide)
