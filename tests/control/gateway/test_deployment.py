"""What a Gateway runs on."""

import re
from typing import Any

import pytest

from stellwerk.control.gateway.access import bindings
from stellwerk.control.gateway.deployment import (
    GATEWAY_NAME,
    NOTICE_SECONDS,
    Defaults,
    access,
    object_name,
    observed,
    owner_labels,
    owner_of,
    workload,
)
from stellwerk.control.gateway.kinds import Gateway
from stellwerk.control.gateway.parameters import Parameters
from stellwerk.control.gateway.resources import MANAGED_BY
from stellwerk.control.gateway.world import read
from stellwerk.edge.supervisor import LAST_WORDS_SECONDS, Program
from tests.cluster.volumes import expanded
from tests.kit.controller_objects import gateway, listener

DEFAULTS = Defaults(Parameters(image="stellwerk:1", service_type="LoadBalancer"))


def made(value: dict[str, Any], parameters: Parameters = Parameters()) -> dict[str, dict[str, Any]]:  # noqa: B008
    """The workload of a Gateway, by kind."""
    found = workload(read(value, Gateway), parameters, DEFAULTS)
    return {manifest["kind"]: manifest for manifest in found}


def test_a_gateway_runs_as_pods_behind_a_service_with_an_account_of_its_own() -> None:
    found = made(gateway())
    assert set(found) == {"ServiceAccount", "Deployment", "Service", "PodDisruptionBudget"}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    assert pod["containers"][0]["args"][:3] == ["gateway", "--gateway", "infra/front"]
    assert found["Deployment"]["spec"]["selector"] == {"matchLabels": found["Service"]["spec"]["selector"]}


def test_everything_goes_when_the_gateway_goes() -> None:
    for manifest in made(gateway()).values():
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Gateway", "front", "uid-Gateway-front")


def test_labels_and_annotations_of_the_infrastructure_are_on_everything_but_cannot_replace_ours() -> None:
    wish = {"labels": {"team": "a", MANAGED_BY: "me"}, "annotations": {"note": "b"}}
    found = made(gateway(infrastructure=wish))
    pod = found["Deployment"]["spec"]["template"]
    for manifest in (*found.values(), pod):
        assert manifest["metadata"]["labels"]["team"] == "a"
        assert manifest["metadata"]["labels"][MANAGED_BY] == "stellwerk-controller"
        assert manifest["metadata"]["labels"][GATEWAY_NAME] == "front"
        assert manifest["metadata"]["annotations"] == {"note": "b"}


def test_parameters_are_honoured() -> None:
    resources = {"requests": {"cpu": "2"}}
    found = made(gateway(), Parameters(3, "mine:2", "ClusterIP", resources))
    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert found["Deployment"]["spec"]["replicas"] == 3
    assert (container["image"], container["resources"]) == ("mine:2", resources)
    assert found["Service"]["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("drain", [0.5, 30.0, 90.0])
def test_pods_have_the_time_that_they_may_take_to_leave(drain: float) -> None:
    defaults = Defaults(drain_seconds=drain)
    (deployment,) = (m for m in workload(read(gateway(), Gateway), Parameters(), defaults) if m["kind"] == "Deployment")
    child = Program("envoy", ()).stop_seconds + LAST_WORDS_SECONDS
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > NOTICE_SECONDS + drain + 2 * child


def test_a_service_that_is_reached_from_outside_may_keep_clients_addresses() -> None:
    local = Parameters(external_traffic_policy="Local")
    assert made(gateway(), local)["Service"]["spec"]["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in made(gateway())["Service"]["spec"]
    inside = Parameters(service_type="ClusterIP").over(local)
    assert "externalTrafficPolicy" not in made(gateway(), inside)["Service"]["spec"], "the API server refuses it there"


def test_pods_get_the_pickers_configuration_word_for_word() -> None:
    text = "plugins: [{type: $(HOME) $$x}]"
    container = made(gateway(), Parameters(picker_config=text))["Deployment"]["spec"]["template"]["spec"]["containers"][
        0
    ]
    given = container["args"][container["args"].index("--config-text") + 1]
    assert expanded(given, {"HOME": "/"}) == text


def test_without_a_number_of_replicas_an_autoscaler_may_have_it() -> None:
    assert "replicas" not in made(gateway())["Deployment"]["spec"]


def test_a_new_listener_changes_the_service_and_not_the_pods() -> None:
    one, two = made(gateway()), made(gateway(listeners=[listener(), listener("https", 443, "HTTPS")]))
    assert one["Deployment"] == two["Deployment"]
    ports = [(port["port"], port["targetPort"]) for port in two["Service"]["spec"]["ports"]]
    assert ports == [(80, 10080), (443, 10443)]


def test_listeners_of_one_port_share_a_port_of_the_service() -> None:
    found = made(gateway(listeners=[listener("a", hostname="a.example"), listener("b", hostname="b.example")]))
    assert [port["port"] for port in found["Service"]["spec"]["ports"]] == [80]


def test_pods_have_no_privileges() -> None:
    pod = made(gateway())["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["enableServiceLinks"] is False
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pods_may_read_the_secrets_of_their_listeners_and_no_others() -> None:
    manifests = access(read(gateway(), Gateway), [("infra", "a"), ("certs", "b"), ("infra", "c")])
    roles = {one["metadata"]["namespace"]: one for one in manifests if one["kind"] == "Role"}
    bound = {one["metadata"]["namespace"]: one for one in manifests if one["kind"] == "RoleBinding"}
    assert [(rule["resources"], rule["resourceNames"]) for rule in roles["infra"]["rules"]] == [
        (["secrets"], ["a", "c"])
    ]
    assert roles["certs"]["rules"][0]["resourceNames"] == ["b"]
    assert bound["certs"]["subjects"] == [{"kind": "ServiceAccount", "name": "front-ours", "namespace": "infra"}]
    assert "ownerReferences" in roles["infra"]["metadata"]
    assert "ownerReferences" not in roles["certs"]["metadata"], "an owner in another namespace would have it deleted"
    assert owner_of(roles["certs"]) == owner_labels(read(gateway(), Gateway))


@pytest.mark.parametrize("name", ["front", "a.b.c", "1st", "g" * 63, "a" * 250, "a." * 100 + "z"])
def test_names_are_names_of_services_and_labels(name: str) -> None:
    value = gateway(name)
    found = made(value)
    label = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
    assert re.fullmatch(label, object_name(read(value, Gateway)))
    assert all(len(text) <= 63 for text in found["Service"]["metadata"]["labels"].values())


def name_of(gateway_name: str, class_name: str = "ours") -> str:
    return object_name(read(gateway(gateway_name, gatewayClassName=class_name), Gateway))


def test_a_name_says_whose_it_is_where_that_is_enough() -> None:
    assert name_of("inference", "stellwerk") == "inference-stellwerk"
    assert name_of("a-b-c", "stellwerk") == "a-b-c-stellwerk"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a" * 80 + "x", "ours"), ("a" * 80 + "y", "ours")),
        (("a.b", "ours"), ("a-b", "ours")),
        (("foo", "bar-baz"), ("foo-bar", "baz")),
        (("1st", "ours"), ("g-1st", "ours")),
        (("a", "b.c"), ("a", "b-c")),
    ],
)
def test_names_that_would_be_the_same_stay_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert name_of(*one) != name_of(*other)


def test_roles_of_gateways_of_several_namespaces_stay_apart_where_they_meet() -> None:
    places = (("a-b", "c"), ("a", "b-c"), ("certs", "a-b"))
    found = [access(read(gateway(name, place), Gateway), [("certs", "x")]) for place, name in places]
    assert len({part["metadata"]["name"] for parts in found for part in parts}) == 3


def test_accounts_are_bound_everywhere_or_in_the_namespaces_that_are_looked_at() -> None:
    (wide,) = bindings([("b", "x"), ("a", "y")])
    assert (wide["kind"], [one["namespace"] for one in wide["subjects"]]) == ("ClusterRoleBinding", ["a", "b"])
    narrow = bindings([("a", "y")], ["n2", "n1"])
    assert [(one["kind"], one["metadata"].get("namespace"), one["roleRef"]["name"]) for one in narrow] == [
        ("RoleBinding", "n1", "stellwerk-gateway"),
        ("RoleBinding", "n2", "stellwerk-gateway"),
        ("ClusterRoleBinding", None, "stellwerk-gateway-cluster"),
    ]


def deployment(ready: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": "d"}, "status": {"readyReplicas": ready} if ready else {}}


@pytest.mark.parametrize(
    ("service", "addresses"),
    [
        ({"spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.1", "fd00::1"]}}, ["10.0.0.1", "fd00::1"]),
        ({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1"}}, ["10.0.0.1"]),
        ({"spec": {"type": "ClusterIP", "clusterIP": "None"}}, []),
        ({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}, []),
        (
            {
                "spec": {"type": "LoadBalancer"},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "lb.example"}, {}]}},
            },
            ["1.2.3.4", "lb.example"],
        ),
    ],
)
def test_addresses_are_those_of_the_service(service: dict[str, Any], addresses: list[str]) -> None:
    found = observed(deployment(1), {"metadata": {"name": "s"}, **service})
    assert [value for _, value in found.addresses] == addresses
    assert found.is_programmed == bool(addresses)
    assert bool(found.message) != found.is_programmed


def test_without_a_ready_pod_nothing_is_programmed() -> None:
    found = observed(deployment(), {"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1"}})
    assert not found.is_programmed
    assert "no pod" in found.message
    assert "not there" in observed(None, None).message


def test_a_load_balancer_is_asked_for_the_address_that_the_gateway_names() -> None:
    wish = [{"type": "IPAddress"}, {"type": "IPAddress", "value": "192.0.2.9"}]
    assert made(gateway(addresses=wish))["Service"]["spec"]["loadBalancerIP"] == "192.0.2.9"
    assert (
        "loadBalancerIP" not in made(gateway(addresses=wish), Parameters(service_type="ClusterIP"))["Service"]["spec"]
    )
    assert "loadBalancerIP" not in made(gateway())["Service"]["spec"]
