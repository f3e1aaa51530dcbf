"""What is kept of objects."""

from typing import Any

from stellwerk.control.gateway import kept
from stellwerk.control.gateway.resources import MANAGED_BY, MANAGER
from tests.kit.controller_objects import gateway, service

BULK = {"managedFields": [{}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}}


def test_a_status_stays_and_the_bulk_goes() -> None:
    value = {**gateway(), "status": {"x": 1}}
    value["metadata"] |= BULK
    found = kept.with_status(value)
    assert found["status"] == {"x": 1}
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert "managedFields" not in found["metadata"]


def test_of_a_secret_only_certificate_and_key_are_kept() -> None:
    value = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "n", "annotations": {"password": "hunter2"}},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "Yw==", "tls.key": "aw==", "password": "aHVudGVyMg=="},
    }
    assert "hunter2" not in str(kept.secret(value))
    assert kept.secret(value)["data"] == {"tls.crt": "Yw==", "tls.key": "aw=="}
    assert kept.secret({"metadata": {"name": "s"}})["data"] == {}


def test_a_service_of_somebody_else_is_kept_in_short_and_ours_whole() -> None:
    spec: dict[str, Any] = {"clusterIP": "10.0.0.1", "selector": {"a": "b"}}
    assert kept.service(service(**spec))["spec"] == {"ports": [{"port": 80}], "type": "ClusterIP"}
    ours = service(**spec)
    ours["metadata"]["labels"] = {MANAGED_BY: MANAGER}
    assert kept.service(ours)["spec"]["clusterIP"] == "10.0.0.1"


def test_of_a_services_ports_what_tells_them_apart_is_kept() -> None:
    port = {"name": "dns", "port": 53, "protocol": "UDP", "appProtocol": "dns", "targetPort": 5353, "nodePort": 30053}
    value = service(ports=[port])
    (found,) = kept.service(value)["spec"]["ports"]
    assert found == {"name": "dns", "port": 53, "protocol": "UDP", "appProtocol": "dns"}


def test_of_a_deployments_status_only_what_is_ready_is_kept() -> None:
    value = {"metadata": {"name": "d"}, "spec": {}, "status": {"readyReplicas": 2, "conditions": [1]}}
    assert kept.deployment(value)["status"] == {"readyReplicas": 2}
    assert "status" not in kept.deployment({"metadata": {"name": "d"}, "status": {"replicas": 1}})


def test_of_a_slice_those_are_kept_that_get_or_may_get_something() -> None:
    conditions = [None, {"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}]
    endpoints = [{"addresses": [f"10.0.0.{n}"], "conditions": each} for n, each in enumerate(conditions)]
    value = {"metadata": {"name": "s", "namespace": "n"}, "endpoints": endpoints, "ports": [{"port": 80}]}
    found = kept.endpoint_slice(value)["endpoints"]
    assert [each["addresses"] for each in found] == [["10.0.0.0"], ["10.0.0.1"], ["10.0.0.3"]]
    assert found[2]["conditions"] == {"ready": False, "serving": True}
