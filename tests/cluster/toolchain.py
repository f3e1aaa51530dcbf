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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "conformance" / "go"
"""Go modules that pin everything that is built."""
KUBERNETES_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")
SUITE_PROGRAMS = ("lwepp", "echo-basic", "conformance.test")
PROGRAMS = KUBERNETES_PROGRAMS + SUITE_PROGRAMS
CRDS = "crds"
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


def programs_directory() -> Path:
    """Where the built programs are kept: $STELLWERK_CLUSTER_BIN, or a cache named after what they are built from."""
    if given := os.environ.get("STELLWERK_CLUSTER_BIN"):
        return Path(given).resolve()
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted(MODULES.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(MODULES).as_posix().encode() + b"\0" + path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "stellwerk" / f"cluster-{digest.hexdigest()[:16]}"


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


def missing_programs() -> list[str]:
    """Programs that are not built yet."""
    directory = programs_directory()
    return [name for name in (*PROGRAMS, CRDS) if not (directory / name).exists()]


def missing() -> list[str]:
    """All that keeps a cluster from starting now; empty: it can."""
    unbuilt = missing_programs()
    built = [f"{', '.join(unbuilt)} (build them: python -m tests.cluster build)"] if unbuilt else []
    return missing_to_run() + built


def missing_for_conformance() -> list[str]:
    """All that keeps `make conformance` from working, which builds what is not built; empty: nothing."""
    return missing_to_run() + (missing_to_build() if missing_programs() else [])


def search_path() -> str:
    """PATH with the folders of system tools, which an ordinary shell may lack."""
    return ":".join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
