"""How to reach an API server and who we are there: from inside a Pod, or from a kubeconfig file.

Tokens and certificates that stand in files are read again when the files change, as the cluster renews them.
"""

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_SECONDS = 10.0
"""Between two looks at the files."""
MAX_FILE_BYTES = 1024 * 1024


class NoCluster(OSError):
    """There is no way to an API server; the message says what was looked for."""


class Secret(Struct, frozen=True):
    """Bytes that stand in a file or were given."""

    path: str | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Raises NoCluster."""
        if self.data is not None:
            return self.data
        return _read(self.path or "")

    def mark(self) -> tuple[int, int, int] | None:
        """Changes when the file does; also behind a link."""
        if self.path is None:
            return None
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def __repr__(self) -> str:
        return f"Secret({self.path or '...'})"


class Access(Struct, frozen=True):
    """A server, and what to show it."""

    server: str
    """`https://host:port`, without a slash at the end."""
    namespace: str = "default"
    token: Secret | None = None
    authority: Secret | None = None
    """PEM of the server's certificate authority; None: that of the system."""
    certificate: Secret | None = None
    key: Secret | None = None
    server_name: str | None = None
    """The name that the server's certificate must have, where that is not the URL's."""
    is_insecure: bool = False


def find(kubeconfig: str | None = None, environment: Mapping[str, str] = os.environ) -> Access:
    """By `kubeconfig` if given, else $KUBECONFIG, the Pod's service account, ~/.kube/config. Raises NoCluster."""
    if kubeconfig:
        return from_kubeconfig(kubeconfig)
    for named in filter(None, environment.get("KUBECONFIG", "").split(os.pathsep)):
        if os.path.exists(named):
            return from_kubeconfig(named)
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environment)
    home = os.path.expanduser("~/.kube/config")
    if os.path.exists(home):
        return from_kubeconfig(home)
    raise NoCluster("no API server: this is no Pod, and neither $KUBECONFIG nor ~/.kube/config is there")


def in_cluster(environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT) -> Access:
    """The way that every Pod has. Raises NoCluster."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    token, authority = directory / "token", directory / "ca.crt"
    for file in (token, authority):
        if not file.exists():
            raise NoCluster(f"{file} is missing: is automountServiceAccountToken off?")
    namespace = directory / "namespace"
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        token=Secret(str(token)),
        authority=Secret(str(authority)),
    )


def from_kubeconfig(path: str) -> Access:
    """The current context of the file. Raises NoCluster."""
    try:
        read = yaml.load(_read(path), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise NoCluster(f"{path} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(read, dict) or not isinstance(read.get("current-context"), str):
        raise NoCluster(f"{path} names no current-context: set one with `kubectl config use-context`")
    context = _named(read, "contexts", "context", read["current-context"], path)
    cluster = _named(read, "clusters", "cluster", context.get("cluster"), path)
    user = _named(read, "users", "user", context["user"], path) if context.get("user") else {}
    for plugin in ("exec", "auth-provider", "username"):
        if plugin in user:
            raise NoCluster(f'{path}: user "{context["user"]}" uses {plugin}: use a token or a client certificate here')
    if "proxy-url" in cluster:
        raise NoCluster(f'{path}: cluster "{context["cluster"]}" uses proxy-url, which is not supported')
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise NoCluster(f'{path}: cluster "{context["cluster"]}" has no server: https://...')
    token = user.get("token")
    given = Secret(data=token.encode()) if isinstance(token, str) and token else None
    return Access(
        server=server.rstrip("/"),
        namespace=context.get("namespace") or "default",
        token=given or _secret(user, "tokenFile", None, path),
        authority=_secret(cluster, "certificate-authority", "certificate-authority-data", path),
        certificate=_secret(user, "client-certificate", "client-certificate-data", path),
        key=_secret(user, "client-key", "client-key-data", path),
        server_name=cluster.get("tls-server-name"),
        is_insecure=cluster.get("insecure-skip-tls-verify") is True,
    )


def _named(config: Mapping[str, Any], section: str, part: str, name: object, path: str) -> dict[str, Any]:
    """The entry `name` of a list of named entries."""
    entries = config.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(part), dict):
            found: dict[str, Any] = entry[part]
            return found
    raise NoCluster(f'{path}: there is no "{name}" in {section}')


def _secret(entry: Mapping[str, Any], file: str, inline: str | None, config: str) -> Secret | None:
    """What stands in the file or in the entry itself; relative paths are relative to the kubeconfig."""
    if inline is not None and entry.get(inline):
        try:
            return Secret(data=base64.b64decode(entry[inline], validate=True))
        except (binascii.Error, TypeError, ValueError):
            raise NoCluster(f"{config}: {inline} is no base64") from None
    name = entry.get(file)
    return Secret(os.path.join(os.path.dirname(os.path.abspath(config)), str(name))) if name else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise NoCluster(f"{path} cannot be read: {error.strerror or error}") from None


class Credentials:
    """What a request shows, up to date. Owner of the TLS context and of the token in memory."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._token = b""
        self._token_mark: object = None
        self._context: ssl.SSLContext | bool = True
        self._context_marks: object = None
        self._looked_at = float("-inf")

    def refresh(self, is_refused: bool = False) -> None:
        """Look at the files, at most every `LOOK_SECONDS` unless the server refused what was shown. Raises NoCluster if
        they were never readable; later on what was read last stays."""
        now = time.monotonic()
        if not is_refused and now - self._looked_at < LOOK_SECONDS:
            return
        is_first = self._looked_at == float("-inf")
        try:
            self._look(is_refused)
        except NoCluster:
            if is_first:
                raise
        self._looked_at = now

    @property
    def headers(self) -> dict[str, str]:
        """Who we are, unless the certificate says so."""
        return {"Authorization": f"Bearer {self._token.decode('latin-1')}"} if self._token else {}

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """For https; made anew when its files change."""
        return self._context

    def _look(self, is_forced: bool) -> None:
        access = self.access
        if access.token is not None:
            mark = access.token.mark()
            if not self._token or mark != self._token_mark or is_forced:
                self._token = access.token.read().strip()
                self._token_mark = mark
        if access.server.startswith("https://"):
            parts = (access.authority, access.certificate, access.key)
            marks = tuple(part.mark() for part in parts if part is not None)
            if marks != self._context_marks:
                self._context = _context(access)
                self._context_marks = marks


def _context(access: Access) -> ssl.SSLContext:
    """Raises NoCluster."""
    try:
        authority = access.authority.read().decode("ascii", "replace") if access.authority is not None else None
        context = ssl.create_default_context(cadata=authority)
        if access.is_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.certificate is not None and access.key is not None:
            _load_pair(context, access.certificate.read(), access.key.read())
    except ssl.SSLError as error:
        raise NoCluster(f"the certificates for {access.server} cannot be used: {error.reason or error}") from None
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The ssl module takes files only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)
