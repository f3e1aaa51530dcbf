"""Builds what tests run, from Go modules: Kubernetes' programs, the fixtures, both conformance suites, and Helm.

Cold it takes some fifteen minutes of CPU, so it says what it does, and what is built already is not built again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.toolchain import (
    CLUSTER,
    CRDS,
    HELM,
    KUBERNETES,
    OTHERS,
    missing_programs,
    missing_to_build,
    module_of,
    program,
)

_PACKAGES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "lwepp": "sigs.k8s.io/gateway-api-inference-extension/cmd/lwepp",
    "echo-basic": "sigs.k8s.io/gateway-api/conformance/echo-basic",
    HELM: "helm.sh/helm/v3/cmd/helm",
}
_DEFINITIONS = {
    CRDS: {
        "sigs.k8s.io/gateway-api": "config/crd/standard",
        "sigs.k8s.io/gateway-api-inference-extension": "config/crd/bases",
    },
    OTHERS: {
        "istio.io/api": "kubernetes",
        "github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd",
    },
}
"""Folders of modules, by what is made of them."""
_SAY_EVERY_SECONDS = 15.0


class BuildFailed(Exception):
    """The message holds the end of Go's own."""


def build(names: Sequence[str] = CLUSTER) -> None:
    """Build those of `names` that are missing. Raises BuildFailed."""
    unbuilt = missing_programs(names)
    if not unbuilt:
        return
    if missing := missing_to_build():
        raise BuildFailed(f"not built: {', '.join(unbuilt)}; missing: {', '.join(missing)}")
    _say(f"building {', '.join(unbuilt)}; cold, all programs take about twenty minutes of CPU")
    for name in unbuilt:
        path = program(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in _DEFINITIONS:
            _copy_definitions(path)
        else:
            _build_program(path)


def _build_program(path: Path) -> None:
    name, module = path.name, module_of(path.name)
    flags = ["-v", "-p", os.environ.get("JOBS", str(os.cpu_count() or 1)), "-ldflags", _linker_flags(name, module)]
    partial = path.with_name(f".{name}.partial")
    if name.endswith(".test"):
        command = ["go", "test", "-c", *flags, "-o", str(partial), "."]
    else:
        command = ["go", "build", "-buildvcs=false", *flags, "-o", str(partial), _PACKAGES[name]]
    _compile(name, command, module)
    partial.replace(path)


def _linker_flags(name: str, module: Path) -> str:
    """Without symbols; Kubernetes' programs also get their version, which clients ask for."""
    if name not in KUBERNETES:
        return "-s -w"
    version = _go("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes", cwd=module)
    return f"-s -w -X k8s.io/component-base/version.gitVersion={version}"


def _compile(name: str, command: list[str], module: Path) -> None:
    """Run Go, and say now and then how many packages it has compiled."""
    started = said = time.monotonic()
    _say(f"{name} ...")
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=module, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                _say(f"{name}: {len(lines)} packages or modules after {said - started:.0f} s")
    if process.returncode != 0:
        raise BuildFailed(f"{name}: go ended with status {process.returncode}\n" + "".join(lines[-20:]))
    _say(f"{name}: built in {time.monotonic() - started:.0f} s")


def _copy_definitions(folder: Path) -> None:
    """As they are published in the modules, at the versions that are pinned."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for module, published in _DEFINITIONS[folder.name].items():
        found = json.loads(_go("mod", "download", "-json", module, cwd=module_of(folder.name)))
        for path in sorted((Path(found["Dir"]) / published).glob("*.yaml")):
            if not path.name.startswith("kustom"):
                shutil.copyfile(path, partial / path.name)
    partial.replace(folder)


def _go(*arguments: str, cwd: Path) -> str:
    """Output of a `go` command."""
    done = subprocess.run(["go", *arguments], cwd=cwd, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"go {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0"}


def _say(text: str) -> None:
    sys.stdout.write(f"cluster: {text}\n")
    sys.stdout.flush()
