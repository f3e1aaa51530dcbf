"""Rules for Service addresses."""

from typing import Any

from tests.cluster.service_proxy import rules


def service(name: str = "web", address: str = "10.96.0.7", **ports: int) -> dict[str, Any]:
    listed = [{"name": each, "port": port, "protocol": "TCP"} for each, port in (ports or {"http": 80}).items()]
    spec = {"clusterIP": address, "type": "ClusterIP", "ports": listed}
    return {"metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}"}, "spec": spec}


def endpoints(*addresses: str, is_ready: bool = True, port: int = 3000) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [each], "conditions": {"ready": is_ready}} for each in addresses],
        "ports": [{"name": "http", "port": port}],
    }


def test_a_service_goes_to_one_of_its_ready_endpoints() -> None:
    text = rules([service()], [endpoints("10.244.0.2", "10.244.0.3")], {})
    chosen = "dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 3000, 1 : 10.244.0.3 . 3000 }"
    assert f"ip daddr {{ 10.96.0.7 }} tcp dport 80 {chosen}" in text


def test_a_service_without_ready_endpoints_has_no_rule_so_that_it_is_reset() -> None:
    text = rules([service()], [endpoints("10.244.0.2", is_ready=False)], {})
    assert "10.96.0.7" not in text
    assert "reject with tcp reset" in text


def test_an_external_address_works_like_the_cluster_address() -> None:
    text = rules([service()], [endpoints("10.244.0.2")], {"uid-web": "172.30.1.128"})
    assert "ip daddr { 10.96.0.7, 172.30.1.128 } tcp dport 80" in text


def test_headless_services_have_no_rules() -> None:
    assert "dnat" not in rules([service(address="None")], [endpoints("10.244.0.2")], {})
