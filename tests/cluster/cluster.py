"""The test cluster as its user sees it: start it, talk to it, run programs in it, stop it.

A real etcd, kube-apiserver and kube-controller-manager; pods are local processes. Everything lives in namespaces of
its own, so nothing of this machine changes, several clusters run side by side, and nothing outlives this process.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.cluster import network
from tests.cluster.api import Api, ApiError, Document
from tests.cluster.logs import read
from tests.cluster.node import AWAY_FILE, FAILED_FILE, IMAGES_FILE, READY_FILE
from tests.cluster.toolchain import ROOT, cluster_folders, missing, search_path

T = TypeVar("T")

_START_SECONDS = 300.0
_STOP_SECONDS = 20.0
WAIT_SECONDS = 60.0
"""Generous, because machines are shared."""


class ClusterFailed(Exception):
    """It did not start, or what was waited for did not come; the message says which."""


class Cluster:
    """A running cluster. `pid` is a process in its network namespace."""

    def __init__(self, pid: int, state: Path) -> None:
        self.pid = pid
        self.state = state
        self.kubeconfig = state / "kubeconfig"
        """Of an administrator; its server is reachable from inside the cluster's network only."""
        self.api = Api.from_kubeconfig(self.kubeconfig, self.network)

    def network(self) -> AbstractContextManager[None]:
        """In the block, this thread opens its sockets in the cluster's network."""
        return network.entered(self.pid)

    def inside(self, *command: str) -> list[str]:
        """The command, to be run in the cluster's network."""
        return network.inside(self.pid, command)

    def environment(self) -> dict[str, str]:
        """For programs that talk to the cluster."""
        path = ":".join(map(str, (*cluster_folders(), Path(sys.prefix) / "bin", search_path())))
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def run(self, *command: str, text: str | None = None, timeout: float = WAIT_SECONDS) -> str:
        """Run a program in the cluster's network; its output. Raises ClusterFailed when it fails."""
        done = subprocess.run(
            self.inside(*command),
            env=self.environment(),
            input=text,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise ClusterFailed(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl; its output."""
        return self.run("kubectl", *arguments, text=text)

    def apply(self, *sources: str | Path | Mapping[str, Any]) -> list[Document]:
        """Server-side apply: YAML text, files, directories of them, or documents; as the server then has them."""
        return [self.api.apply(document) for source in sources for document in _documents(source)]

    def get(self, kind: str, name: str, namespace: str | None = "default", api_version: str = "v1") -> Document:
        """One object. Raises ApiError, 404 where there is none."""
        found: Document = self.api.get(self.api.path_of(api_version, kind, namespace, name))
        return found

    def list(self, kind: str, namespace: str | None = None, api_version: str = "v1", query: str = "") -> list[Document]:
        """All objects of a kind; `query` may hold a label selector."""
        found: list[Document] = self.api.get(self.api.path_of(api_version, kind, namespace) + query)["items"]
        return found

    def delete(self, *sources: str | Path | Mapping[str, Any]) -> None:
        """Delete what `apply` would apply, in reverse order; what is gone already is fine."""
        for document in reversed([each for source in sources for each in _documents(source)]):
            self.api.delete(document)

    def wait(self, what: str, check: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
        """Poll until `check()` is truthy; errors of the API count as not yet. Raises ClusterFailed naming `what`."""
        end = time.monotonic() + seconds
        while True:
            problem: Exception | None = None
            try:
                if value := check():
                    return value
            except (ApiError, OSError, KeyError) as caught:
                problem = caught
            if time.monotonic() > end:
                raise ClusterFailed(f"waited {seconds:.0f} s in vain for {what}" + (f": {problem}" if problem else ""))
            time.sleep(0.1)

    def wait_for_deployment(self, name: str, namespace: str = "default", seconds: float = WAIT_SECONDS) -> None:
        """Until all its replicas are ready and up to date."""

        def is_ready() -> bool:
            found = self.get("Deployment", name, namespace, "apps/v1")
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            return bool(
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == wanted
                and status.get("replicas", 0) == wanted
            )

        try:
            self.wait(f"Deployment {namespace}/{name}", is_ready, seconds)
        except ClusterFailed as problem:
            raise ClusterFailed(f"{problem}\n{self.logs(namespace, name)[-4000:]}") from None

    def logs(self, namespace: str = "default", name: str = "", container: str = "") -> str:
        """What pods wrote whose name starts with `name`, those that are gone included."""
        found = sorted((self.state / "pods").glob(f"{namespace}_{name}*/{container or '*'}.log"))
        return "".join(f"--- {each.parent.name}/{each.stem}\n{read(each).decode(errors='replace')}" for each in found)

    def audit(self) -> Iterator[Document]:
        """What service accounts asked of the API server, oldest first."""
        path = self.state / "audit.log"
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    @contextlib.contextmanager
    def api_server_away(self) -> Iterator[None]:
        """No API server in the block; the block begins when it is gone, and ends when it answers again."""
        away = self.state / AWAY_FILE
        away.touch()
        try:
            self.wait("the API server to be gone", lambda: not self._has_api_server())
            yield
        finally:
            away.unlink()
            self.wait("the API server to be back", self._has_api_server)

    def _has_api_server(self) -> bool:
        try:
            return bool(self.api.get("/readyz"))
        except (ApiError, OSError):
            return False

    @contextlib.contextmanager
    def process(self, *command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A program in the cluster's network for the duration of the block; ended with SIGTERM, then SIGKILL."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.inside(*command),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            _end(process)


@contextlib.contextmanager
def running(images: Mapping[str, Sequence[str]] | None = None, keep: Path | None = None) -> Iterator[Cluster]:
    """A cluster for the duration of the block. `images`: further images, name -> command. `keep`: state directory.

    Raises ClusterFailed.
    """
    if absent := missing():
        raise ClusterFailed(f"the test cluster needs: {'; '.join(absent)}")
    state = keep or Path(tempfile.mkdtemp(prefix="stellwerk-cluster-"))
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o755)
    (state / IMAGES_FILE).write_text(json.dumps(images or {}))
    process = _start_node(state)
    try:
        _wait_until_ready(process, state)
        yield Cluster(process.pid, state)
    finally:
        _stop_node(process)
        if keep is None:
            shutil.rmtree(state, ignore_errors=True)


def _start_node(state: Path) -> subprocess.Popen[bytes]:
    """The kernel kills it when this process ends: the first SIGKILL in the chain takes all with it."""
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL"),
        *("--mount-proc", sys.executable, "-m", "tests.cluster.node", str(state)),
    ]
    with (state / "node.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], state: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not (state / READY_FILE).exists():
        if process.poll() is not None or time.monotonic() > end:
            failed = state / FAILED_FILE
            reason = failed.read_text() if failed.exists() else (state / "node.log").read_text()[-2000:]
            raise ClusterFailed(f"the test cluster did not start: {reason}")
        time.sleep(0.05)


def _stop_node(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the node itself, as `unshare` does not pass it on; it is the last of its namespace to go."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL after a while."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    if process.poll() is None:
        process.kill()
    process.wait()


def _documents(source: str | Path | Mapping[str, Any]) -> list[Document]:
    if isinstance(source, Mapping):
        return [dict(source)]
    if isinstance(source, Path):
        paths = sorted(source.rglob("*.yaml")) if source.is_dir() else [source]
        return [document for path in paths for document in _documents(path.read_text())]
    return [document for document in yaml.safe_load_all(source) if document]
