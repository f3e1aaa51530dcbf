"""What containers write: kept with the time of every line, and served where the API server asks its kubelet for it."""

import ipaddress
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.addresses import KUBELET_PORT, NODE_IP

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def keep(output: IO[bytes], path: Path) -> None:
    """Append every line to `path`, after its time, until the last writer is gone."""

    def follow() -> None:
        with output, path.open("ab", buffering=0) as log:
            for line in output:
                log.write(datetime.now(UTC).strftime(_FORMAT).encode() + b" " + line.rstrip(b"\n") + b"\n")

    threading.Thread(target=follow, daemon=True, name=f"log {path}").start()


def read(path: Path, since: datetime | None = None, tail: int | None = None) -> bytes:
    """What was written, without the times; from `since` on, and only the last `tail` lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    if since is not None:
        earliest = since.astimezone(UTC).strftime(_FORMAT).encode()
        lines = [line for line in lines if line.split(b" ", 1)[0] >= earliest]
    if tail is not None:
        lines = lines[-tail:] if tail else []
    return b"".join(line.split(b" ", 1)[1] for line in lines)


class LogServer(threading.Thread):
    """The one thing of kubelet's own API that is there: `/containerLogs/NAMESPACE/POD/CONTAINER`. No following."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True, name="logs")

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = _answer(directory, self.path)
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


def _answer(directory: Path, target: str) -> bytes | None:
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
