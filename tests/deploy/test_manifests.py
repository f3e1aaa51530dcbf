"""The installation as it is shipped: up to date, whole, and with no more rights than it needs."""

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy import pods
from deploy.generate import HERE, INSTALLS, Install, files
from stellwerk import __version__
from stellwerk.cli.epp import config_of, epp
from stellwerk.cli.main import main
from stellwerk.control.crds import definitions
from stellwerk.control.gateway.parameters import Parameters, parameters
from stellwerk.control.gateway.permissions import (
    CONTROLLER,
    GATEWAY,
    GATEWAY_CLUSTER,
    GATEWAY_CLUSTER_ROLE,
    GATEWAY_ROLE,
    LEASE,
    rules,
)
from stellwerk.control.kube.permissions import PICKER, REVIEWS
from tests.cluster.images import EPP, STELLWERK
from tests.kit.manifests import EXAMPLES, Object, by_key, key, kustomized
from tests.kit.programs import built

MANIFESTS = HERE / "manifests"
OWN_WORKLOADS = ("Deployment",)
BUILT_IN = {
    "v1",
    "apps/v1",
    "policy/v1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
}

installs = pytest.mark.parametrize("install", INSTALLS, ids=lambda install: install.chart)


@functools.cache
def everything() -> list[Object]:
    return [each for install in INSTALLS for each in kustomized(MANIFESTS / f"{install.directory}-monitoring")]


def pod_specs() -> Iterator[Object]:
    for each in everything():
        if each["kind"] in OWN_WORKLOADS:
            yield each["spec"]["template"]["spec"]


def role(kind: str, name: str) -> list[Object]:
    (found,) = {
        yaml.dump(each["rules"]) for each in everything() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    }
    wanted: list[Object] = yaml.safe_load(found)
    return wanted


def test_generated_files_are_up_to_date() -> None:
    made = files()
    for path, text in made.items():
        assert (HERE / path).read_text() == text, f"deploy/{path} is out of date: run make docs"
    kept = {path.relative_to(HERE).as_posix() for path in MANIFESTS.rglob("*.yaml")}
    assert kept <= made.keys()


def test_deleting_what_was_installed_deletes_no_kind_with_all_its_objects() -> None:
    assert not [key(each) for each in everything() if each["kind"] == "CustomResourceDefinition"]


BUILT = [MANIFESTS / "crds", *(MANIFESTS / f"{install.directory}-monitoring" for install in INSTALLS), *EXAMPLES]


@pytest.mark.parametrize("directory", BUILT, ids=lambda path: path.name)
def test_kubectl_builds_the_same(directory: Path) -> None:
    text = subprocess.run([built("kubectl"), "kustomize", directory], capture_output=True, text=True, check=True).stdout
    assert by_key([each for each in yaml.load_all(text, yaml.CSafeLoader) if each]) == by_key(kustomized(directory))


def test_definitions_are_those_that_stellwerk_crds_prints() -> None:
    assert by_key(kustomized(MANIFESTS / "crds")) == by_key(definitions())


def test_roles_grant_what_the_code_says_it_uses() -> None:
    for kind, name, grants in (
        ("ClusterRole", "stellwerk-controller", CONTROLLER),
        ("Role", "stellwerk-controller", LEASE),
        ("ClusterRole", GATEWAY_ROLE, GATEWAY),
        ("ClusterRole", GATEWAY_CLUSTER_ROLE, GATEWAY_CLUSTER),
        ("Role", "llama-epp", PICKER),
        ("ClusterRole", "default-llama-epp", REVIEWS),
    ):
        assert role(kind, name) == rules(grants), name


def test_no_right_is_a_wildcard_and_only_the_controller_may_change_what_others_made() -> None:
    for each in everything():
        for rule in each.get("rules", []):
            assert "*" not in [*rule.get("apiGroups", []), *rule.get("resources", []), *rule["verbs"]]
            resources = set(rule.get("resources", []))
            if each["metadata"]["name"] != "stellwerk-controller":
                assert not resources & {"secrets", "roles", "rolebindings", "clusterroles", "clusterrolebindings"}


def test_every_binding_names_a_role_and_an_account_that_are_there() -> None:
    found = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in everything()}
    for each in everything():
        if each["kind"].endswith("RoleBinding"):
            named, place = each["roleRef"], each["metadata"].get("namespace", "")
            assert (named["kind"], place if named["kind"] == "Role" else "", named["name"]) in found
            for subject in each["subjects"]:
                assert (subject["kind"], subject["namespace"], subject["name"]) in found


@installs
def test_everything_says_of_which_version_it_is(install: Install) -> None:
    for each in kustomized(MANIFESTS / install.directory):
        if each["kind"] != "Namespace":
            assert each["metadata"]["labels"]["app.kubernetes.io/version"] == __version__, key(each)
        assert "app.kubernetes.io/version" not in str(each.get("spec", {}).get("selector"))


def test_no_pod_takes_a_service_of_its_namespace_for_an_option() -> None:
    examples = [each for example in EXAMPLES for each in kustomized(example) if each["kind"] == "Deployment"]
    assert examples
    for spec in (*pod_specs(), *(each["spec"]["template"]["spec"] for each in examples)):
        assert spec["enableServiceLinks"] is False


def test_pods_have_no_privileges_and_a_read_only_root() -> None:
    for spec in pod_specs():
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == pods.USER
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all(volume.keys() & {"emptyDir", "configMap"} for volume in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_containers_say_what_they_need_and_how_to_ask_whether_they_work() -> None:
    for spec in pod_specs():
        for container in spec["containers"]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in (container["readinessProbe"], container["livenessProbe"]):
                asked = probe["grpc"]["port"] if "grpc" in probe else ports[probe["httpGet"]["port"]]
                assert asked in ports.values()


@installs
def test_every_deployment_has_a_budget_a_policy_and_a_service_that_select_its_pods(install: Install) -> None:
    found = kustomized(MANIFESTS / f"{install.directory}-monitoring")
    for each in found:
        if each["kind"] != "Deployment":
            continue
        labels = each["spec"]["template"]["metadata"]["labels"]
        selectors: dict[str, Object] = {"Deployment": each["spec"]["selector"]["matchLabels"]}
        for other in found:
            spec = other.get("spec", {})
            if other["kind"] == "Service":
                selectors["Service"] = spec["selector"]
                ports = {port["name"] for port in each["spec"]["template"]["spec"]["containers"][0]["ports"]}
                assert {port["targetPort"] for port in spec["ports"]} <= ports
            if other["kind"] == "NetworkPolicy":
                selectors[other["kind"]] = spec["podSelector"]["matchLabels"]
                assert spec["policyTypes"] == ["Ingress", "Egress"]
            if other["kind"] in ("PodDisruptionBudget", "ServiceMonitor"):
                selectors[other["kind"]] = spec["selector"]["matchLabels"]
        assert selectors.keys() == {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor"}
        assert all(selector.items() <= labels.items() and selector for selector in selectors.values())


def test_commands_of_containers_are_commands_with_those_options() -> None:
    for spec in pod_specs():
        (container,) = spec["containers"]
        name, *arguments = container["args"]
        command = main.get_command(main.make_context("stellwerk", [name]), name)
        assert command is not None
        context = command.make_context(name, list(arguments))
        if command is epp:
            config = config_of(context.params)
            assert config.epp.cluster is not None
            assert config.epp.cluster.pool_name == "llama"
            assert config.epp.cluster.guards_metrics
            assert not config.epp.cluster.elects


def test_the_parameters_of_the_class_are_parameters() -> None:
    (found,) = (each for each in everything() if key(each)[1:] == ("ConfigMap", "stellwerk-system", "stellwerk"))
    read = parameters(found["data"], "stellwerk")
    assert isinstance(read, Parameters)
    assert (read.replicas, read.image, read.service_type) == (2, f"stellwerk:{__version__}", "LoadBalancer")


def test_the_pool_names_the_service_of_its_picker() -> None:
    found = everything()
    (pool,) = (each for each in found if each["kind"] == "InferencePool")
    named = pool["spec"]["endpointPickerRef"]
    (service,) = (each for each in found if each["kind"] == "Service" and each["metadata"]["name"] == named["name"])
    assert named["port"]["number"] in {port["port"] for port in service["spec"]["ports"]}


def test_only_monitoring_needs_kinds_that_a_cluster_may_lack() -> None:
    for install in INSTALLS:
        for each in kustomized(MANIFESTS / install.directory):
            group = each["apiVersion"]
            assert group in BUILT_IN or group.startswith(("inference.networking.", "gateway.networking.")), key(each)


def test_the_images_run_what_the_test_cluster_runs_in_their_place() -> None:
    entries: dict[str, list[str]] = {}
    for stage in re.split(r"^FROM ", (HERE / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]:
        target = re.match(r"\S+ AS (\S+)", stage)
        if entry := re.search(r"^ENTRYPOINT (.+)$", stage, re.MULTILINE):
            entries[target[1] if target else ""] = json.loads(entry[1])
    # The last one is built where no target is named.
    assert list(entries) == ["epp", ""]
    for target_name, image in (("", STELLWERK), ("epp", EPP)):
        assert entries[target_name] == list(image.command[2:])
        assert image.user == pods.USER


def test_versions_are_those_of_the_package() -> None:
    for install in INSTALLS:
        chart = yaml.safe_load((HERE / "charts" / install.chart / "Chart.yaml").read_text())
        assert chart["version"] == chart["appVersion"] == __version__
        assert install.values()["image"] == f"stellwerk:{__version__}"


def test_the_image_is_built_from_the_lock_for_a_user_without_rights() -> None:
    lines = (HERE / "Dockerfile").read_text()
    assert re.search(r"install --require-hashes .*-r requirements/run\.lock", lines)
    assert f"\nUSER {pods.USER}:{pods.USER}\n" in lines
    locked = re.search(r"--python-version ([\d.]+)", (HERE.parent / "Makefile").read_text())
    assert locked
    assert set(re.findall(r"^FROM python:([\d.]+)-", lines, re.MULTILINE)) == {locked[1]}
    ignored = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
    for line in lines.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (HERE.parent / source).exists()
                assert f"!{source}" in ignored
