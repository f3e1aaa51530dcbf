"""What there is of kubelet's own API, which the API server calls for kubectl: logs, and connections to pods."""

import ipaddress
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.addresses import KUBELET_PORT, NODE_IP
from tests.cluster.forwarding import PROTOCOL, Forwarding
from tests.cluster.logs import read
from tests.cluster.network import dial

Find = Callable[[str, str], str | None]
"""The network namespace of a pod, by its namespace and name; None: it is not here."""


class KubeletApi(threading.Thread):
    """`/containerLogs/NAMESPACE/POD/CONTAINER` (no following), and `/portForward/NAMESPACE/POD`."""

    def __init__(self, directory: Path, find: Find) -> None:
        super().__init__(daemon=True, name="kubelet api")

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(_log(directory, self.path))

            def do_POST(self) -> None:
                parts = urlsplit(self.path).path.strip("/").split("/")
                found = find(*parts[1:3]) if parts[0] == "portForward" and len(parts) >= 3 else None
                if found is None or self.headers.get("Upgrade") != "SPDY/3.1":
                    self._answer(None)
                    return
                head = ("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1")
                self.wfile.write("\r\n".join((*head, f"X-Stream-Protocol-Version: {PROTOCOL}", "", "")).encode())
                self.wfile.flush()
                self.close_connection = True
                Forwarding(self.connection, lambda port: dial(found, port)).run()

            def _answer(self, content: bytes | None) -> None:
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((NODE_IP, KUBELET_PORT), Handler)
        self._server.socket = _tls(directory.parent).wrap_socket(self._server.socket, server_side=True)

    def run(self) -> None:
        """For ever."""
        self._server.serve_forever()


def _log(directory: Path, target: str) -> bytes | None:
    """The log that a request asks for; None where there is none."""
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    parts = url.path.strip("/").split("/")
    if len(parts) != 4 or parts[0] != "containerLogs":
        return None
    _, namespace, pod, container = parts
    found = sorted(directory.glob(f"{namespace}_{pod}_*/{container}.log"), key=lambda each: each.stat().st_mtime)
    if not found:
        return None
    since = datetime.fromisoformat(query["sinceTime"]) if "sinceTime" in query else None
    if "sinceSeconds" in query:
        since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
    return read(found[-1], since, int(query["tailLines"]) if "tailLines" in query else None)


def _tls(directory: Path) -> ssl.SSLContext:
    """With a certificate that nobody checks, as the API server is not told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubelet")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(NODE_IP))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "kubelet.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
