"""Parameters of classes and Gateways."""

import re
from pathlib import Path

import pytest
import yaml

from stellwerk.control.gateway.parameters import KEYS, Malformed, Parameters, parameters, reference_problem


def test_every_parameter_is_read() -> None:
    data = {
        "replicas": "3",
        "image": "registry.example:5000/stellwerk:1.0@sha256:0f",
        "serviceType": "ClusterIP",
        "resources": "requests: {cpu: 500m, memory: 1Gi}\nlimits: {memory: 2Gi}",
        "pickerBodyMode": "Streamed",
        "externalTrafficPolicy": "Local",
        "pickerConfig": "kind: EndpointPickerConfig\n",
    }
    assert parameters(data, "infra/gw") == Parameters(
        replicas=3,
        image=data["image"],
        service_type="ClusterIP",
        resources={"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        picker_body_mode="Streamed",
        external_traffic_policy="Local",
        picker_config="kind: EndpointPickerConfig\n",
    )


def test_an_empty_map_says_nothing() -> None:
    assert parameters({}, "infra/gw") == Parameters()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"replica": "3"}, 'no parameter "replica": did you mean "replicas"?'),
        ({"replicas": "-1"}, "not a number from 0"),
        ({"replicas": "99999999999999999999"}, "not a number from 0"),
        ({"replicas": "٣"}, "not a number from 0"),
        ({"image": "a b"}, "not the name of an image"),
        ({"serviceType": "clusterip"}, 'did you mean "ClusterIP"?'),
        ({"pickerBodyMode": "Buffered"}, "is not known"),
        ({"externalTrafficPolicy": "local"}, 'did you mean "Local"?'),
        ({"pickerConfig": "x" * 100_000}, "more than the limit"),
        ({"resources": "cpu: 1"}, "must be a mapping with requests and limits"),
        ({"resources": "[1"}, "resources"),
        ({"resources": "requests: 1"}, "must be a mapping like"),
        ({"resources": "requests: {cpu: fast}"}, "not a quantity"),
        ({"resources": "a: &a [*a]"}, "resources"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, str], words: str) -> None:
    found = parameters(data, "infra/gw")
    assert isinstance(found, Malformed)
    assert "infra/gw" in found.message
    assert words in found.message


def test_a_pickers_configuration_is_checked_by_who_knows_plugins() -> None:
    seen = []

    def check(where: str, text: str) -> str:
        seen.append((where, text))
        return "pickerConfig:1:1: no"

    found = parameters({"pickerConfig": "kind: X"}, "infra/gw", check)
    assert found == Malformed("ConfigMap infra/gw: pickerConfig:1:1: no")
    assert seen == [("pickerConfig", "kind: X")]
    assert parameters({"pickerConfig": " \n"}, "infra/gw", check) == Parameters()


def test_a_gateway_overrides_its_class_key_by_key() -> None:
    own, common = Parameters(replicas=0), Parameters(replicas=2, image="a", service_type="NodePort")
    assert own.over(common) == Parameters(replicas=0, image="a", service_type="NodePort")


def test_a_reference_must_name_a_config_map() -> None:
    assert reference_problem({"group": "", "kind": "ConfigMap"}) is None
    assert "InvalidParameters of group invalid.io" in (
        reference_problem({"group": "invalid.io", "kind": "InvalidParameters"}) or ""
    )


def test_the_example_in_the_documentation_says_all_there_is_to_say() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gateways.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    data = yaml.safe_load(block)["data"]
    assert set(data) == set(KEYS)
    assert isinstance(parameters(data, "inference/large"), Parameters)
