"""A bare API server on loopback: real etcd and kube-apiserver, without nodes, controllers or root.

Pods are objects here, and nothing runs them: a test writes their status itself, and may point their addresses at
servers of its own on 127.0.0.0/8. Where the programs are absent, tests are skipped with their names.
"""

import contextlib
import functools
import json
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stellwerk.control.crds import definitions
from tests.cluster.api import Api, ApiError, Document
from tests.cluster.toolchain import program, search_path, unbuilt
from tests.kit.processes import free_port, wait_until

_START_SECONDS = 120.0


def missing_programs() -> list[str]:
    """What keeps the API server from starting; empty: nothing."""
    absent = [] if shutil.which("etcd", path=search_path()) else ["etcd (package etcd-server)"]
    return absent + unbuilt(["kube-apiserver"])


class ApiServer:
    """A running API server. Owner of the two processes; `stop` and `start` keep port and data."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.kubeconfig = state / "kubeconfig"
        """Of an administrator."""
        self._port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._write_credentials()
        self._run_etcd()
        self.start()
        self.api = Api.from_kubeconfig(self.kubeconfig)
        self._wait_for(lambda: self.api.get("/api/v1/namespaces/default"))

    def start(self) -> None:
        """Start kube-apiserver, and wait until it is ready."""
        etcd, certificates = f"http://127.0.0.1:{self._etcd_port}", self.state / "certs"
        self._start(
            "kube-apiserver",
            program("kube-apiserver"),
            [
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._port}",
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                f"--cert-dir={certificates}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self.state / 'accounts.pub'}",
                f"--service-account-signing-key-file={self.state / 'accounts.key'}",
                f"--token-auth-file={self.state / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--v=0",
            ],
        )
        self._wait_for(lambda: (certificates / "apiserver.crt").read_bytes())
        self._wait_for(lambda: Api.from_kubeconfig(self.kubeconfig).get("/readyz"))

    def stop(self, name: str = "kube-apiserver") -> None:
        """End one program at once."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """kube-apiserver stands still: its connections stay open, and nobody answers."""
        process = self._running["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything."""
        for name in list(self._running):
            self.stop(name)

    def user(self, name: str) -> str:
        """Token of one of the users of `_USERS`."""
        lines = (self.state / "tokens.csv").read_text().splitlines()
        (token,) = (line.split(",")[0] for line in lines if line.split(",")[1] == name)
        return token

    def define(self, wanted: Sequence[Document]) -> None:
        """Create CustomResourceDefinitions, replacing older ones, and wait until they are served."""
        for definition in wanted:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            name = definition["metadata"]["name"]
            try:
                self.api.call("POST", path, definition)
            except ApiError as problem:
                if problem.code != 409:
                    raise
                found = self.api.get(f"{path}/{name}")
                version = {"resourceVersion": found["metadata"]["resourceVersion"]}
                self.api.call("PUT", f"{path}/{name}", {**definition, "metadata": definition["metadata"] | version})
            wait_until(f"{name} to be served", functools.partial(self._is_served, f"{path}/{name}"))

    def _is_served(self, path: str) -> bool:
        conditions = self.api.get(path).get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    def _wait_for(self, ask: Callable[[], Any]) -> None:
        def answered() -> bool:
            for name, process in self._running.items():
                log = (self.state / f"{name}.log").read_text(errors="replace")
                assert process.poll() is None, f"{name} ended with {process.returncode}:\n{log[-2000:]}"
            with contextlib.suppress(OSError, ApiError, ssl.SSLError):
                ask()
                return True
            time.sleep(0.1)
            return False

        wait_until("the API server", answered, _START_SECONDS)

    def _start(self, name: str, program: str | Path, arguments: Sequence[str]) -> None:
        with (self.state / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [program, *arguments], cwd=self.state, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _run_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        program = shutil.which("etcd", path=search_path())
        assert program is not None
        arguments = [f"--data-dir={self.state / 'etcd'}", f"--listen-client-urls={client}"]
        arguments += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
        arguments += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
        self._start("etcd", program, [*arguments, "--unsafe-no-fsync"] if _has_no_fsync(program) else arguments)
        self._wait_for(lambda: urllib.request.urlopen(f"{client}/health", timeout=5).read())

    def _write_credentials(self) -> None:
        users = ["admin,1,system:masters", "scraper,2,scrapers", "stranger,3,strangers"]
        rows = [user.split(",") for user in users]
        tokens = {name: secrets.token_hex(16) for name, _, _ in rows}
        lines = [f'{tokens[name]},{name},{number},"{group}"\n' for name, number, group in rows]
        (self.state / "tokens.csv").write_text("".join(lines))
        key = rsa.generate_private_key(65537, 2048)
        encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, no_encryption)
        public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        (self.state / "accounts.key").write_bytes(private)
        (self.state / "accounts.pub").write_bytes(public)
        authority = str(self.state / "certs" / "apiserver.crt")
        cluster = {"server": f"https://127.0.0.1:{self._port}", "certificate-authority": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": tokens["admin"]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }
        self.kubeconfig.write_text(json.dumps(config))


def _has_no_fsync(program: str) -> bool:
    """Whether this etcd can do without writing through to the disk."""
    return (
        "--unsafe-no-fsync" in subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    )


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for the session, with the project's own CustomResourceDefinitions; tests keep to namespaces of their own."""
    if absent := missing_programs():
        pytest.skip(f"no API server: missing {'; '.join(absent)}")
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    try:
        server.define(definitions())
        yield server
    finally:
        server.close()
