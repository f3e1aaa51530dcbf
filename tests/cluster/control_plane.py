"""etcd, kube-apiserver and kube-controller-manager, as child processes of the node."""

import json
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.addresses import API_PORT, NODE_IP, SERVICE_NETWORK
from tests.cluster.api import Api, ApiError
from tests.cluster.toolchain import CRDS, program

T = TypeVar("T")

_CONTROLLERS = (
    "deployment",
    "replicaset",
    "statefulset",
    "daemonset",
    "job",
    "disruption",
    "endpointslice",
    "namespace",
    "serviceaccount",
    "root-ca-certificate-publisher",
    "garbage-collector",
)
_API_SERVER = "kube-apiserver"
_START_SECONDS = 120.0
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""Who asked for what, of service accounts only: enough to compare roles with what is used."""


class StartFailed(Exception):
    """The message names the program and its log."""


class ControlPlane:
    """Owns the three processes. `state` is where everything is written."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.api: Api

    def start(self) -> Api:
        """Start all, wait until the API server answers and knows the CRDs. Raises StartFailed."""
        self._write_credentials()
        self._start_etcd()
        self._start_api_server()
        self.wait_for("the API server's certificate", (self._state / "certs" / "apiserver.crt").read_bytes)
        self.api = Api.from_kubeconfig(self._state / "kubeconfig")
        self.wait_for("the API server", lambda: self.api.get("/readyz"))
        self._start_controllers()
        self._create_definitions()
        self.wait_for("default account", lambda: self.api.get("/api/v1/namespaces/default/serviceaccounts/default"))
        return self.api

    def keep_api_server(self, is_wanted: bool) -> None:
        """Stop the API server, or start it again; nothing when it is as wanted."""
        running = self._running.get(_API_SERVER)
        if running is not None and not is_wanted:
            del self._running[_API_SERVER]
            running.kill()
            running.wait()
        elif running is None and is_wanted:
            self._start_api_server()

    def check(self) -> None:
        """Raises StartFailed when a process has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = (self._state / f"{name}.log").read_text(errors="replace")
                raise StartFailed(f"{name} ended with status {process.returncode}:\n{log[-2000:]}")

    def wait_for(self, what: str, ask: Callable[[], T]) -> T:
        """Ask until there is an answer. Raises StartFailed."""
        end = time.monotonic() + _START_SECONDS
        while True:
            self.check()
            try:
                return ask()
            except (OSError, ApiError) as problem:
                if time.monotonic() > end:
                    raise StartFailed(f"{what} is not there after {_START_SECONDS:.0f} s: {problem!r}") from problem
                time.sleep(0.1)

    def _start(self, name: str, program: str | Path, arguments: Sequence[str]) -> None:
        with (self._state / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [program, *arguments], cwd=self._state, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _write_credentials(self) -> None:
        token = secrets.token_hex(16)
        (self._state / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')
        (self._state / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self._state / "accounts.key").write_bytes(private)
        (self._state / "accounts.pub").write_bytes(public)
        (self._state / "kubeconfig").write_text(json.dumps(self._kubeconfig(token), indent=1))

    def _kubeconfig(self, token: str) -> dict[str, Any]:
        """JSON is YAML, so every client can read it. The self-signed certificate's file also holds its CA."""
        cluster = {
            "server": f"https://{NODE_IP}:{API_PORT}",
            "certificate-authority": str(self._state / "certs" / "apiserver.crt"),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }

    def _start_etcd(self) -> None:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._start(
            "etcd",
            "etcd",
            [
                f"--data-dir={self._state / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
            ],
        )
        self.wait_for("etcd", lambda: urllib.request.urlopen(f"{client}/health", timeout=5).read())

    def _start_api_server(self) -> None:
        self._start(
            _API_SERVER,
            program(_API_SERVER),
            [
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={NODE_IP}",
                "--cert-dir=certs",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-key-file=accounts.pub",
                "--service-account-signing-key-file=accounts.key",
                "--token-auth-file=tokens.csv",
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
                "--audit-policy-file=audit-policy.json",
                "--audit-log-path=audit.log",
                "--v=0",
            ],
        )

    def _start_controllers(self) -> None:
        self._start(
            "kube-controller-manager",
            program("kube-controller-manager"),
            [
                "--kubeconfig=kubeconfig",
                "--service-account-private-key-file=accounts.key",
                "--root-ca-file=certs/apiserver.crt",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                "--controllers=" + ",".join(f"{name}-controller" for name in _CONTROLLERS),
            ],
        )

    def _create_definitions(self) -> None:
        """Upstream's CRDs, and the policies that came with them. Their schemas are validated by the server."""
        for path in sorted(program(CRDS).glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text()):
                if document:
                    self.wait_for(path.name, partial(self.api.apply, document))
