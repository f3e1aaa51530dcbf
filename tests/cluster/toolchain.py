"""What the test cluster needs of this machine, and by name what of it is missing.

Nothing here installs anything. A test that needs the cluster is skipped with these names; `make conformance` stops
with them.
"""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "conformance" / "go"
"""Go modules that pin everything that is built."""
CRDS = "crds"
"""Not a program but a folder: the definitions as upstream publishes them."""
KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubectl")
SUITES = ("lwepp", "echo-basic", "conformance.test", CRDS)
CLUSTER = (*KUBERNETES, *SUITES)
"""What a cluster and the suites need."""
HELM = "helm"
"""Which only tests of the charts run."""
OTHERS = "crds-of-others"
"""A folder: the definitions of Istio and of the Prometheus operator, whose kinds some manifests are of."""
PROGRAMS = (*CLUSTER, HELM, OTHERS)
_MODULES = {
    **dict.fromkeys(KUBERNETES, "kubernetes"),
    **dict.fromkeys(SUITES, "suites"),
    HELM: "helm",
    OTHERS: "others",
}
_TOOLS = {
    "etcd": "etcd-server",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""Program, and the package of Debian and Ubuntu that has it."""
_TRIAL = """
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link add trial type bridge
ip link add one type veth peer name other
nft 'add table ip trial; add chain ip trial nat { type nat hook output priority -100; }'
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work /run/root
"""


def program(name: str) -> Path:
    """Where one of `PROGRAMS` is, or will be once it is built.

    That is in $STELLWERK_CLUSTER_BIN, or in a cache named after the files of its Go module: a change of one module
    builds that one anew, and Kubernetes takes long.
    """
    if given := os.environ.get("STELLWERK_CLUSTER_BIN"):
        return Path(given).resolve() / name
    module = module_of(name)
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted(module.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(module).as_posix().encode() + b"\0" + path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "stellwerk" / f"{module.name}-{digest.hexdigest()[:16]}" / name


def module_of(name: str) -> Path:
    """The Go module that pins one of `PROGRAMS`."""
    return MODULES / _MODULES[name]


def cluster_folders() -> list[Path]:
    """Those that hold what a cluster needs."""
    return list(dict.fromkeys(program(name).parent for name in CLUSTER))


def missing_to_build() -> list[str]:
    """Why the programs cannot be built here; empty: they can."""
    return [] if shutil.which("go") else ["Go (https://go.dev/dl, 1.26 or newer)"]


def missing_to_run() -> list[str]:
    """What a cluster needs beside the built programs; empty: nothing."""
    missing = []
    if sys.platform != "linux":
        return ["Linux (network namespaces)"]
    if os.geteuid() != 0:
        missing.append("root (network and mount namespaces)")
    absent = [tool for tool in _TOOLS if shutil.which(tool, path=search_path()) is None]
    missing += [f"{tool} (package {_TOOLS[tool]})" for tool in absent]
    return missing or _refused()


@functools.cache
def _refused() -> list[str]:
    """What this machine does not let us do, root or not: containers often lack namespaces, links or mounts."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-ec", _TRIAL],
        env={**os.environ, "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return [] if done.returncode == 0 else [f"leave to make namespaces, links and mounts ({done.stderr.strip()})"]


def missing_programs(names: Sequence[str] = CLUSTER) -> list[str]:
    """Those of `names` that are not built yet."""
    return [name for name in names if not program(name).exists()]


def unbuilt(names: Sequence[str]) -> list[str]:
    """The same in words, with the remedy: one line, or none."""
    absent = missing_programs(names)
    return [f"{', '.join(absent)} (build: python -m tests.cluster build)"] if absent else []


def missing() -> list[str]:
    """All that keeps a cluster from starting now; empty: it can."""
    return missing_to_run() + unbuilt(CLUSTER)


def missing_for_conformance() -> list[str]:
    """All that keeps `make conformance` from working, which builds what is not built; empty: nothing."""
    return missing_to_run() + (missing_to_build() if missing_programs() else [])


def search_path() -> str:
    """PATH with the folders of system tools, which an ordinary shell may lack."""
    return ":".join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
