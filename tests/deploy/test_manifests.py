"""The installation as it is shipped: up to date, equal to the charts, and with no more rights than it needs."""

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from deploy import pods
from deploy.generate import HERE, INSTALLS, PICKER_INSTALL, Install, files, is_on
from deploy.value import filled
from stellwerk import __version__
from stellwerk.cli.epp import config_of, epp
from stellwerk.cli.main import main
from stellwerk.config import Config
from stellwerk.control.crds import definitions
from stellwerk.control.fields import LEGACY_GROUP, POOL_GROUP
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
from tests.cluster.toolchain import HELM, program, unbuilt
from tests.kit.helm import Refused, rendered
from tests.kit.helm import filled as text_of
from tests.kit.manifests import EXAMPLES, Object, by_key, documents, key, kustomized

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


def built(name: str) -> str:
    """A program that is pinned and built for tests; the test is skipped where it is not."""
    if absent := unbuilt([name]):
        pytest.skip(f"missing {absent[0]}")
    return str(program(name))


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


@installs
def test_a_chart_renders_to_the_plain_manifests(install: Install) -> None:
    values = install.values()
    values["monitoring"]["enabled"] = True
    chart = rendered(HERE / "charts" / install.chart, values, install.namespace)
    plain = kustomized(MANIFESTS / f"{install.directory}-monitoring")
    assert by_key(chart) == by_key([each for each in plain if each["kind"] != "Namespace"])
    defined = [each for path in (HERE / "charts" / install.chart / "crds").iterdir() for each in documents(path)]
    wanted = ("models", "pools") if install.has_pools else ("models",)
    assert by_key(defined) == by_key([each for part in wanted for each in kustomized(MANIFESTS / "crds" / part)])


def test_deleting_what_was_installed_deletes_no_kind_with_all_its_objects() -> None:
    assert not [key(each) for each in everything() if each["kind"] == "CustomResourceDefinition"]


@installs
def test_what_a_value_turns_off_is_not_rendered(install: Install) -> None:
    values = install.values()
    kinds = {each["kind"] for each in rendered(HERE / "charts" / install.chart, values, "elsewhere")}
    assert not kinds & {"ServiceMonitor", "PodMonitor"}
    section, kind = ("gatewayClass", "GatewayClass") if install.chart == "stellwerk" else ("pool", "InferencePool")
    assert kind in kinds
    values[section]["create"] = False
    assert kind not in {each["kind"] for each in rendered(HERE / "charts" / install.chart, values, "elsewhere")}


def test_a_leader_may_be_evicted_and_replaced_although_no_standby_is_ready() -> None:
    def found(elects: bool) -> tuple[set[str], str]:
        objects = picker_objects(leaderElection=elects)
        (deployment,) = (each for each in objects if each["kind"] == "Deployment")
        return {each["kind"] for each in objects}, deployment["spec"]["strategy"]["type"]

    kinds, strategy = found(True)
    assert "PodDisruptionBudget" not in kinds
    assert strategy == "Recreate"
    kinds, strategy = found(False)
    assert "PodDisruptionBudget" in kinds
    assert strategy == "RollingUpdate"


@pytest.mark.parametrize("seconds", [1, 30, 90])
def test_a_picker_has_the_time_to_drain_that_it_is_told_to_take(seconds: int) -> None:
    (deployment,) = (each for each in picker_objects(drainSeconds=seconds) if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    arguments = spec["containers"][0]["args"][1:]
    assert config_of(epp.make_context("epp", arguments).params).timeouts.drain_seconds == seconds
    # Beside the two phases: what is left is closed in a second each.
    assert spec["terminationGracePeriodSeconds"] >= 2 * seconds + 10


def test_a_picker_reads_pools_of_the_group_that_it_is_told_and_of_no_other() -> None:
    for group in (POOL_GROUP, LEGACY_GROUP):
        found = picker_objects(pool={"create": False, "group": group})
        (deployment,) = (each for each in found if each["kind"] == "Deployment")
        arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"][1:]
        cluster = config_of(epp.make_context("epp", arguments).params).epp.cluster
        assert cluster is not None
        assert cluster.pool_group == group
        rights = [rule for each in found if each["kind"] == "Role" for rule in each["rules"]]
        assert [rule["apiGroups"] for rule in rights if "inferencepools" in rule["resources"]] == [[group]]


def test_options_are_variables_whatever_their_type_and_reach_the_command() -> None:
    (deployment,) = (each for each in picker_objects(options=OPTIONS) if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert variables == {**OPTIONS, "STELLWERK_EPP_STRICT_MODELS": "true", "STELLWERK_EPP_MAX_BODY_DEPTH": "50"}
    read: list[Config] = []
    command = click.Command("epp", params=epp.params, callback=lambda **options: read.append(config_of(options)))
    group = click.Group("stellwerk", commands={"epp": command})
    done = CliRunner(env=variables).invoke(group, container["args"], auto_envvar_prefix="STELLWERK")
    assert done.exit_code == 0, done.output
    assert read[0].epp.is_strict
    assert (read[0].body.max_body_depth, read[0].epp.grpc.host) == (50, "::")


def picker_objects(**settings: Any) -> list[Object]:
    """Of the picker's chart."""
    values = with_settings(PICKER_INSTALL, settings)
    return rendered(HERE / "charts" / PICKER_INSTALL.chart, values, "default")


def test_a_picker_of_another_name_shares_nothing_with_the_first() -> None:
    chart, values = HERE / "charts" / PICKER_INSTALL.chart, {**PICKER_INSTALL.values(), "leaderElection": True}
    first = by_key(rendered(chart, values, "one"))
    other = {**values, "name": "mistral-epp", "pool": {**values["pool"], "name": "mistral"}}
    for second in (by_key(rendered(chart, other, "one")), by_key(rendered(chart, values, "two"))):
        assert not first.keys() & second.keys()


API_SERVER = {"apiServer": {"ports": [8443, 16443], "cidrs": ["10.0.0.1/32", "fd00::1/128"]}}
OPTIONS = {"STELLWERK_EPP_STRICT_MODELS": True, "STELLWERK_EPP_MAX_BODY_DEPTH": 50, "STELLWERK_EPP_BIND_ADDRESS": "::"}
PLACED: Object = {
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"prometheus.io/scrape": "true"},
}
CASES: dict[str, list[Object]] = {
    "stellwerk": [
        {},
        {"monitoring": {"enabled": True}, "networkPolicy": API_SERVER},
        {"controller": {"options": {"STELLWERK_CONTROLLER_ARGUMENTS": "--drain-timeout 60s"}, **PLACED}},
    ],
    "stellwerk-epp": [
        {},
        {"monitoring": {"enabled": True}, "metrics": {"auth": False}},
        {"leaderElection": True, "drainSeconds": 90},
        {"networkPolicy": API_SERVER, "options": OPTIONS},
        {"pool": {"create": False, "group": LEGACY_GROUP}},
        PLACED,
        {"pool": {"create": False, "matchLabels": {"model": "mistral", "tier": "gpu"}}},
    ],
}
"""What is set beside the values of the plain manifests."""
cases = pytest.mark.parametrize(
    ("install", "settings"),
    [
        pytest.param(install, settings, id=f"{install.chart}-{'-'.join(settings) or 'plain'}")
        for install in INSTALLS
        for settings in CASES[install.chart]
    ],
)


@cases
def test_a_chart_renders_to_the_objects_whatever_its_values(install: Install, settings: Object) -> None:
    values = with_settings(install, settings)
    on = [each for part in install.parts if is_on(part, values) for each in part.objects()]
    chart = rendered(HERE / "charts" / install.chart, values, install.namespace)
    assert by_key(chart) == by_key(filled(on, install.scope(values)))


@cases
def test_helm_itself_renders_the_same(install: Install, settings: Object) -> None:
    chart, values = HERE / "charts" / install.chart, with_settings(install, settings)
    assert by_key(by_helm(install, values)) == by_key(rendered(chart, values, install.namespace))


def with_settings(install: Install, settings: Object) -> Object:
    """Values of the plain manifests with those of some sections replaced."""
    old = install.values()
    new = {name: {**old[name], **part} if isinstance(part, dict) else part for name, part in settings.items()}
    return {**old, **new}


def by_helm(install: Install, values: Object) -> list[Object]:
    """What Helm renders."""
    return documents_of(helm(install, "-f", "-", text=json.dumps(values)))


def documents_of(done: subprocess.CompletedProcess[str]) -> list[Object]:
    """What a command has printed. Raises AssertionError with its words."""
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


def helm(install: Install, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """`helm template` of a chart."""
    command = [
        built(HELM),
        "template",
        "release",
        str(HERE / "charts" / install.chart),
        "--namespace",
        install.namespace,
    ]
    return subprocess.run(
        [*command, "--kube-version", "1.34.0", *arguments], input=text, capture_output=True, text=True, check=False
    )


def test_servers_of_a_pool_have_to_be_named_and_are_the_only_ones() -> None:
    chart, values = HERE / "charts" / PICKER_INSTALL.chart, PICKER_INSTALL.values()
    for create in (True, False):
        pool = {**values["pool"], "create": create}
        with pytest.raises(Refused, match="matchLabels is empty: give labels"):
            rendered(chart, {**values, "pool": {**pool, "matchLabels": {}}}, "default")
        found = rendered(chart, {**values, "pool": {**pool, "matchLabels": {"model": "x"}}}, "default")
        (policy,) = (each for each in found if each["kind"] == "NetworkPolicy")
        assert {"podSelector": {"matchLabels": {"model": "x"}}} in [
            peer for rule in policy["spec"]["egress"] for peer in rule.get("to", ())
        ]


@installs
def test_the_api_server_is_at_its_ports_of_any_address_or_of_those_that_are_named(install: Install) -> None:
    def egress(**settings: Object) -> Object:
        found = rendered(HERE / "charts" / install.chart, with_settings(install, settings), install.namespace)
        (policy,) = (each for each in found if each["kind"] == "NetworkPolicy")
        rule: Object = policy["spec"]["egress"][0]
        return rule

    assert egress() == {"to": [], "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]}
    assert egress(networkPolicy={"apiServer": {"ports": [8443], "cidrs": ["10.0.0.1/32"]}}) == {
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 8443}],
    }


def test_helm_adds_nothing_to_the_labels_of_servers() -> None:
    assert "pool.matchLabels is empty: give labels" in helm(PICKER_INSTALL).stderr
    found = documents_of(helm(PICKER_INSTALL, "--set", "pool.matchLabels.model=x"))
    (pool,) = (each for each in found if each["kind"] == "InferencePool")
    assert pool["spec"]["selector"] == {"matchLabels": {"model": "x"}}


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


def test_values_say_where_pods_run_and_what_is_noted_on_them() -> None:
    for install in INSTALLS:
        settings = PLACED if install is PICKER_INSTALL else {"controller": PLACED}
        found = rendered(HERE / "charts" / install.chart, with_settings(install, settings), install.namespace)
        (template,) = (each["spec"]["template"] for each in found if each["kind"] == "Deployment")
        placed = {name: template["spec"][name] for name in PLACED if name != "podAnnotations"}
        assert {**placed, "podAnnotations": template["metadata"]["annotations"]} == PLACED


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


@installs
def test_the_schema_knows_every_value_and_no_others(install: Install) -> None:
    def names(schema: Object, values: Object) -> None:
        assert schema["properties"].keys() - {"global"} == values.keys()
        for name, part in schema["properties"].items():
            if not part.get("additionalProperties", True) and values[name]:
                assert part["type"] == "object"
                names(part, values[name])

    names(install.schema(), install.values())


MISTAKES = [
    ("stellwerk", "controller.repilcas=3", "repilcas"),
    ("stellwerk", "gatewayClass.serviceType=Loadbalancer", "/gatewayClass/serviceType"),
    ("stellwerk", "controller.options.STELLWERK_CONTROLLER_ARGUMENT=x", "STELLWERK_CONTROLLER_ARGUMENT"),
    ("stellwerk-epp", "repilcas=3", "repilcas"),
    ("stellwerk-epp", "replicas=two", "/replicas"),
    ("stellwerk-epp", "pool.failureMode=FailClosed", "/pool/failureMode"),
    ("stellwerk-epp", "pool.group=inference.networking.x-k8s.io", "/pool/create"),
    ("stellwerk-epp", "options.STELLWERK_EPP_STRICT_MODEL=true", "STELLWERK_EPP_STRICT_MODEL"),
]


@pytest.mark.parametrize(("chart", "setting", "named"), MISTAKES)
def test_helm_refuses_a_mistake_by_its_name(chart: str, setting: str, named: str) -> None:
    (install,) = (each for each in INSTALLS if each.chart == chart)
    done = helm(install, "--set", f"{'pool.matchLabels.app=llama,' if install is PICKER_INSTALL else ''}{setting}")
    assert done.returncode != 0
    assert named in done.stderr


@cases
def test_what_is_said_after_an_installation_is_about_that_installation(install: Install, settings: Object) -> None:
    values = with_settings(install, settings)
    said = text_of((HERE / "charts" / install.chart / "templates" / "NOTES.txt").read_text(), install.scope(values))
    assert f"--namespace {install.namespace}" in said
    if install is PICKER_INSTALL:
        assert ("is not part of this release" in said) is not values["pool"]["create"]
        assert ("the others stand by" in said) is values["leaderElection"]


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
