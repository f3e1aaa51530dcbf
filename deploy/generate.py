"""Writes the plain manifests and the charts' templates from the same objects. `make docs`; a test fails when they are
out of date.

    deploy/manifests/   for kubectl apply -k, with the charts' default values. Definitions are on their own: what
                        installs can be deleted without all the objects of their kinds
    deploy/charts/      for helm install; values.yaml, Chart.yaml and NOTES.txt are written by hand
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from deploy import gateway, picker, schema
from deploy.value import Object, dumped, filled, templated
from stellwerk.control.crds import definitions

HERE = Path(__file__).parent
NOTE = "# Made by deploy/generate.py.\n"


class Part(Struct, frozen=True):
    """One file of manifests."""

    name: str
    objects: Callable[[], list[Object]]
    condition: str = ""
    """Value that turns it on, in the chart."""
    is_opposite: bool = False
    """Whether that value turns it off instead."""


class Install(Struct, frozen=True):
    """A chart, and the directory of plain manifests that is equal to it but for the definitions."""

    chart: str
    directory: str
    namespace: str
    parts: tuple[Part, ...]
    schema: Callable[[], Object]
    """Of the chart's values."""
    has_pools: bool
    """Whether the chart brings the definitions of InferencePools: a foreign gateway has them."""
    has_namespace: bool = False
    settings: Mapping[str, Mapping[str, Any]] = {}
    """By section: what the chart has no default for."""

    def values(self) -> dict[str, Any]:
        """Those of the plain manifests: the chart's defaults, and `settings`."""
        read: dict[str, Any] = yaml.safe_load((HERE / "charts" / self.chart / "values.yaml").read_text())
        return read | {section: {**read[section], **given} for section, given in self.settings.items()}

    def scope(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What values refer to."""
        return {"Values": values, "Release": {"Namespace": self.namespace}}


GATEWAY_INSTALL = Install(
    chart="stellwerk",
    directory="gateway",
    namespace="stellwerk-system",
    parts=(
        Part("rbac", gateway.rights),
        Part("controller", gateway.controller),
        Part("gatewayclass", gateway.gateway_class, "gatewayClass.create"),
        Part("monitoring", gateway.monitoring, "monitoring.enabled"),
    ),
    schema=schema.of_gateway,
    has_pools=True,
    has_namespace=True,
)
PICKER_INSTALL = Install(
    chart="stellwerk-epp",
    directory="epp",
    namespace="default",
    parts=(
        Part("rbac", picker.rights),
        Part("election", picker.election, "leaderElection"),
        Part("reviews", picker.reviews, "metrics.auth"),
        Part("picker", picker.picker),
        Part("budget", picker.budget, "leaderElection", is_opposite=True),
        Part("pool", picker.pool, "pool.create"),
        Part("monitoring", picker.monitoring, "monitoring.enabled"),
    ),
    schema=schema.of_picker,
    has_pools=False,
    settings={"pool": {"matchLabels": {"app": "llama"}}},
)
INSTALLS = (GATEWAY_INSTALL, PICKER_INSTALL)


def files() -> dict[str, str]:
    """Path below deploy/ -> text, of everything that is generated."""
    pools = [each for each in definitions() if each["spec"]["names"]["kind"] == "InferencePool"]
    models = [each for each in definitions() if each not in pools]
    made = {
        "manifests/crds/kustomization.yaml": kustomization(["models", "pools"]),
        "manifests/crds/pools/pools.yaml": dumped(pools),
        "manifests/crds/pools/kustomization.yaml": kustomization(["pools.yaml"]),
        "manifests/crds/models/models.yaml": dumped(models),
        "manifests/crds/models/kustomization.yaml": kustomization(["models.yaml"]),
    }
    for install in INSTALLS:
        chart = f"charts/{install.chart}"
        made[f"{chart}/crds/models.yaml"] = dumped(models)
        if install.has_pools:
            made[f"{chart}/crds/pools.yaml"] = dumped(pools)
        made |= {f"{chart}/templates/{part.name}.yaml": template(part) for part in install.parts}
        made |= plain(install)
    schemas = {
        f"charts/{install.chart}/values.schema.json": f"{json.dumps(install.schema(), indent=2)}\n"
        for install in INSTALLS
    }
    return {path: NOTE + text for path, text in made.items()} | schemas


def template(part: Part) -> str:
    """One file of a chart."""
    text = templated(part.objects())
    test = f"{'not ' if part.is_opposite else ''}.Values.{part.condition}"
    return f"{{{{- if {test} }}}}\n{text}{{{{- end }}}}\n" if part.condition else text


def plain(install: Install) -> dict[str, str]:
    """The same with default values. Monitoring, whose kinds not every cluster has, has a directory of its own."""
    scope, base = install.scope(install.values()), f"manifests/{install.directory}"
    resources: list[str] = []
    made = {}
    if install.has_namespace:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": install.namespace}}
        made[f"{base}/namespace.yaml"] = dumped([namespace])
        resources.append("namespace.yaml")
    for part in install.parts:
        if part.name == "monitoring":
            own = f"{base}-monitoring"
            made[f"{own}/kustomization.yaml"] = kustomization([f"../{install.directory}", "monitoring.yaml"])
            made[f"{own}/monitoring.yaml"] = dumped(filled(part.objects(), scope))
        elif is_on(part, install.values()):
            made[f"{base}/{part.name}.yaml"] = dumped(filled(part.objects(), scope))
            resources.append(f"{part.name}.yaml")
    made[f"{base}/kustomization.yaml"] = kustomization(resources)
    return made


def is_on(part: Part, values: Mapping[str, Any]) -> bool:
    """Whether the chart with `values` has it."""
    found: Any = values
    for name in part.condition.split(".") if part.condition else ():
        found = found[name]
    return not part.condition or bool(found) != part.is_opposite


def kustomization(resources: Sequence[str]) -> str:
    """A kustomization of these files and directories."""
    return dumped(
        [{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}]
    )


def write() -> None:
    """All of it; what is not generated any more is removed."""
    made = files()
    for directory in ("manifests", "charts/stellwerk/templates", "charts/stellwerk-epp/templates"):
        for old in (HERE / directory).rglob("*.yaml"):
            if old.relative_to(HERE).as_posix() not in made:
                old.unlink()
    for path, text in made.items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_text(text)


if __name__ == "__main__":
    write()
