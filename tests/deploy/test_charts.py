"""The charts: equal to the plain manifests, rendered by Helm as by the tests, and obedient to their values."""

import json
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from deploy.generate import HERE, INSTALLS, PICKER_INSTALL, Install, is_on
from deploy.value import filled
from stellwerk.cli.epp import config_of, epp
from stellwerk.config import Config
from stellwerk.control.fields import LEGACY_GROUP, POOL_GROUP
from tests.cluster.toolchain import HELM
from tests.kit.helm import Refused, rendered
from tests.kit.helm import filled as text_of
from tests.kit.manifests import Object, by_key, documents, kustomized
from tests.kit.programs import built

MANIFESTS = HERE / "manifests"
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
        {"controller": {"options": {"STELLWERK_CONTROLLER_GATEWAY_ARG": "--drain-timeout 60s"}, **PLACED}},
    ],
    "stellwerk-epp": [
        {},
        {"monitoring": {"enabled": True}, "metrics": {"auth": False}},
        {"leaderElection": True, "drainSeconds": 90},
        {"networkPolicy": API_SERVER, "options": OPTIONS},
        {"pool": {"create": False, "group": LEGACY_GROUP, "matchLabels": {"model": "mistral", "tier": "gpu"}}},
        PLACED,
    ],
}
"""What is set beside the values of the plain manifests."""

installs = pytest.mark.parametrize("install", INSTALLS, ids=lambda install: install.chart)
cases = pytest.mark.parametrize(
    ("install", "settings"),
    [
        pytest.param(install, settings, id=f"{install.chart}-{'-'.join(settings) or 'plain'}")
        for install in INSTALLS
        for settings in CASES[install.chart]
    ],
)


def chart_of(install: Install) -> Path:
    return HERE / "charts" / install.chart


def values_with(install: Install, settings: Object) -> Object:
    """Values of the plain manifests with those of some sections replaced."""
    old = install.values()
    new = {name: {**old[name], **part} if isinstance(part, dict) else part for name, part in settings.items()}
    return {**old, **new}


def objects(install: Install, **settings: Any) -> list[Object]:
    """What the chart renders to."""
    return rendered(chart_of(install), values_with(install, settings), install.namespace)


def one(kind: str, found: list[Object]) -> Object:
    (wanted,) = (each for each in found if each["kind"] == kind)
    return wanted


def by_helm(install: Install, *arguments: str, text: str = "") -> list[Object]:
    """What Helm renders the chart to. Raises Refused with its words."""
    place = ("--namespace", install.namespace, "--kube-version", "1.34.0")
    command = [built(HELM), "template", "release", str(chart_of(install)), *place, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


@installs
def test_a_chart_renders_to_the_plain_manifests(install: Install) -> None:
    plain = kustomized(MANIFESTS / f"{install.directory}-monitoring")
    made = objects(install, monitoring={"enabled": True})
    assert by_key(made) == by_key([each for each in plain if each["kind"] != "Namespace"])
    defined = [each for path in (chart_of(install) / "crds").iterdir() for each in documents(path)]
    wanted = ("models", "pools") if install.has_pools else ("models",)
    assert by_key(defined) == by_key([each for part in wanted for each in kustomized(MANIFESTS / "crds" / part)])


@cases
def test_a_chart_renders_to_the_objects_whatever_its_values(install: Install, settings: Object) -> None:
    values = values_with(install, settings)
    parts = [each for part in install.parts if is_on(part, values) for each in part.objects()]
    assert by_key(objects(install, **settings)) == by_key(filled(parts, install.scope(values)))


@cases
def test_helm_itself_renders_the_same(install: Install, settings: Object) -> None:
    made = by_helm(install, "-f", "-", text=json.dumps(values_with(install, settings)))
    assert by_key(made) == by_key(objects(install, **settings))


@installs
def test_what_a_value_turns_off_is_not_rendered(install: Install) -> None:
    section, kind = ("pool", "InferencePool") if install is PICKER_INSTALL else ("gatewayClass", "GatewayClass")
    kinds = {each["kind"] for each in objects(install)}
    assert kind in kinds
    assert not kinds & {"ServiceMonitor", "PodMonitor"}
    assert kind not in {each["kind"] for each in objects(install, **{section: {"create": False}})}


@installs
def test_the_schema_knows_every_value_and_no_others(install: Install) -> None:
    def compare(schema: Object, values: Object) -> None:
        assert schema["properties"].keys() - {"global"} == values.keys()
        for name, part in schema["properties"].items():
            if "properties" in part and values[name]:
                compare(part, values[name])

    compare(install.schema(), install.values())


@pytest.mark.parametrize(
    ("chart", "setting", "named"),
    [
        ("stellwerk", "controller.repilcas=3", "repilcas"),
        ("stellwerk", "gatewayClass.serviceType=Loadbalancer", "/gatewayClass/serviceType"),
        ("stellwerk", "controller.options.STELLWERK_CONTROLLER_GATEWAY_AR=x", "STELLWERK_CONTROLLER_GATEWAY_AR"),
        ("stellwerk-epp", "repilcas=3", "repilcas"),
        ("stellwerk-epp", "replicas=two", "/replicas"),
        ("stellwerk-epp", "pool.failureMode=FailClosed", "/pool/failureMode"),
        ("stellwerk-epp", f"pool.group={LEGACY_GROUP}", "/pool/create"),
        ("stellwerk-epp", "options.STELLWERK_EPP_STRICT_MODEL=true", "STELLWERK_EPP_STRICT_MODEL"),
        ("stellwerk-epp", "options.STELLWERK_EPP_LOG_LEVEL=debug", "STELLWERK_EPP_LOG_LEVEL"),
        ("stellwerk-epp", "pool.name=llama", "pool.matchLabels is empty: give labels"),
    ],
)
def test_helm_refuses_a_mistake_by_its_name(chart: str, setting: str, named: str) -> None:
    (install,) = (each for each in INSTALLS if each.chart == chart)
    with pytest.raises(Refused) as said:
        by_helm(install, "--set", setting)
    assert named in str(said.value)


@cases
def test_what_is_said_after_an_installation_is_about_that_installation(install: Install, settings: Object) -> None:
    values = values_with(install, settings)
    said = text_of((chart_of(install) / "templates" / "NOTES.txt").read_text(), install.scope(values))
    assert f"--namespace {install.namespace}" in said
    if install is PICKER_INSTALL:
        assert ("is not part of this release" in said) is not values["pool"]["create"]
        assert ("the others stand by" in said) is values["leaderElection"]


def test_a_picker_of_another_name_shares_nothing_with_the_first() -> None:
    chart, values = chart_of(PICKER_INSTALL), values_with(PICKER_INSTALL, {"leaderElection": True})
    first = by_key(rendered(chart, values, "one"))
    other = {**values, "name": "mistral-epp", "pool": {**values["pool"], "name": "mistral"}}
    for second in (by_key(rendered(chart, other, "one")), by_key(rendered(chart, values, "two"))):
        assert not first.keys() & second.keys()


@pytest.mark.parametrize("create", [True, False])
def test_servers_of_a_pool_have_to_be_named_and_are_the_only_ones(create: bool) -> None:
    with pytest.raises(Refused, match="matchLabels is empty: give labels"):
        objects(PICKER_INSTALL, pool={"create": create, "matchLabels": {}})
    found = objects(PICKER_INSTALL, pool={"create": create, "matchLabels": {"model": "x"}})
    assert {"to": [{"podSelector": {"matchLabels": {"model": "x"}}}]} in one("NetworkPolicy", found)["spec"]["egress"]


def test_helm_adds_nothing_to_the_labels_of_servers() -> None:
    pool = one("InferencePool", by_helm(PICKER_INSTALL, "--set", "pool.matchLabels.model=x"))
    assert pool["spec"]["selector"] == {"matchLabels": {"model": "x"}}


@pytest.mark.parametrize("group", [POOL_GROUP, LEGACY_GROUP])
def test_a_picker_reads_pools_of_the_group_that_it_is_told_and_of_no_other(group: str) -> None:
    found = objects(PICKER_INSTALL, pool={"create": False, "group": group})
    cluster = config_of(epp.make_context("epp", container_of(found)["args"][1:]).params).epp.cluster
    assert cluster is not None
    assert cluster.pool_group == group
    rights = [rule for each in found if each["kind"] == "Role" for rule in each["rules"]]
    assert [rule["apiGroups"] for rule in rights if "inferencepools" in rule["resources"]] == [[group]]


def container_of(found: list[Object]) -> Object:
    (container,) = one("Deployment", found)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_a_leader_may_be_evicted_and_replaced_although_no_standby_is_ready() -> None:
    for elects, strategy in ((True, "Recreate"), (False, "RollingUpdate")):
        found = objects(PICKER_INSTALL, leaderElection=elects)
        assert ("PodDisruptionBudget" in {each["kind"] for each in found}) is not elects
        assert one("Deployment", found)["spec"]["strategy"]["type"] == strategy


@pytest.mark.parametrize("seconds", [1, 30, 90])
def test_a_picker_has_the_time_to_drain_that_it_is_told_to_take(seconds: int) -> None:
    found = objects(PICKER_INSTALL, drainSeconds=seconds)
    config = config_of(epp.make_context("epp", container_of(found)["args"][1:]).params)
    assert config.timeouts.drain_seconds == seconds
    # Beside the two phases: what is left is closed in a second each.
    grace = one("Deployment", found)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= 2 * seconds + 10


def test_options_are_variables_whatever_their_type_and_reach_the_command() -> None:
    container = container_of(objects(PICKER_INSTALL, options=OPTIONS))
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert variables == {**OPTIONS, "STELLWERK_EPP_STRICT_MODELS": "true", "STELLWERK_EPP_MAX_BODY_DEPTH": "50"}
    read: list[Config] = []
    command = click.Command("epp", params=epp.params, callback=lambda **options: read.append(config_of(options)))
    group = click.Group("stellwerk", commands={"epp": command})
    done = CliRunner(env=variables).invoke(group, container["args"], auto_envvar_prefix="STELLWERK")
    assert done.exit_code == 0, done.output
    assert read[0].epp.is_strict
    assert (read[0].body.max_body_depth, read[0].epp.grpc.host) == (50, "::")


@installs
def test_the_api_server_is_at_its_ports_of_any_address_or_of_those_that_are_named(install: Install) -> None:
    def egress(**settings: Object) -> Object:
        rule: Object = one("NetworkPolicy", objects(install, **settings))["spec"]["egress"][0]
        return rule

    assert egress() == {"to": [], "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]}
    assert egress(networkPolicy={"apiServer": {"ports": [8443], "cidrs": ["10.0.0.1/32"]}}) == {
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 8443}],
    }


@installs
def test_values_say_where_pods_run_and_what_is_noted_on_them(install: Install) -> None:
    settings = PLACED if install is PICKER_INSTALL else {"controller": PLACED}
    template = one("Deployment", objects(install, **settings))["spec"]["template"]
    placed = {name: template["spec"][name] for name in PLACED if name != "podAnnotations"}
    assert {**placed, "podAnnotations": template["metadata"]["annotations"]} == PLACED
