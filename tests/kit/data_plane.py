"""Real Envoy with the generated configuration, recording model servers, scripted pickers: each ended by its handle."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from stellwerk.control.envoy.resources import Resources, resources
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.edge.envoy import EnvoyAdmin, EnvoyFiles, EnvoyLog, command
from stellwerk.edge.preflight import RuntimeDirectory, find_envoy
from stellwerk.model.catalog import Catalog, FailureMode, Pool, PublicModel, Split, Target
from stellwerk.model.endpoint import Endpoint
from tests.kit.processes import wait_until

T = TypeVar("T")
EVENTS = "text/event-stream"


class RecordingServer(ThreadingHTTPServer):
    """A model server that answers with its port and what it got. `GET|POST /stream` sends `events` as SSE,
    `/document` sends them as JSON."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[dict[str, Any]] = []
        self.events = b"data: [DONE]\n\n"
        self.pieces: list[bytes] = []
        """Sent instead of `events` if there are any, `pause_seconds` apart."""
        self.pause_seconds = 0.0

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is not worth a stack trace."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingServer
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout: ClassVar[float] = 30.0

    def do_GET(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append({"path": self.path, "headers": headers, "bytes": len(body)})
        if self.path.startswith("/close"):
            self.close_connection = True
            return
        if self.path.startswith("/stream"):
            self._send(EVENTS, b"".join(self.server.pieces) or self.server.events, 200)
            return
        if self.path.startswith("/document"):
            self._send("application/json", self.server.events, 200)
            return
        status = 418 if self.path.startswith("/teapot") else 200
        answer = {"served_by": self.server.port, "bytes": len(body), "headers": headers}
        self._send("application/json", json.dumps(answer).encode(), status)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_POST = do_GET  # noqa: N815 - the library asks for this name

    def _send(self, content_type: str, body: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        for piece in self.server.pieces if content_type == EVENTS and self.server.pieces else [body]:
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(self.server.pause_seconds)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextlib.contextmanager
def model_servers(count: int) -> Iterator[list[RecordingServer]]:
    """`count` servers on free ports."""
    servers = [RecordingServer() for _ in range(count)]
    threads = [threading.Thread(target=each.serve_forever, args=(0.05,), daemon=True) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join(5)
            server.server_close()


def endpoint(port: int) -> Endpoint:
    """An endpoint on loopback."""
    return Endpoint(key=f"default/server-{port}:{port}", server=f"server-{port}", namespace="default",
                    host="127.0.0.1", port=port)  # fmt: skip


def pool(name: str, *ports: int, mode: FailureMode = FailureMode.CLOSE, **more: Any) -> Pool:
    """A pool `default/NAME`."""
    return Pool(f"default/{name}", tuple(map(endpoint, ports)), mode, **more)


def catalog(*pools: Pool, models: Mapping[str, str] | None = None, default: str | None = None) -> Catalog:
    """`models`: public name to pool."""
    named = {
        name: PublicModel(name, owner, Split.of((Target(name, 1),), "test")) for name, owner in (models or {}).items()
    }
    return Catalog(1, {each.name: each for each in pools}, named, default)


@dataclass
class DataPlane:
    """A running Envoy."""

    settings: EnvoySettings
    files: EnvoyFiles
    process: subprocess.Popen[bytes]
    log_path: Path
    envoy_log: EnvoyLog = field(default_factory=EnvoyLog)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Envoy's own words."""
        return self.log_path.read_text(errors="replace")

    def ask(self, question: Callable[[EnvoyAdmin], Awaitable[T]]) -> T:
        """Ask the admin interface one thing."""

        async def asking() -> T:
            admin = EnvoyAdmin(self.settings.paths.admin_socket)
            try:
                return await question(admin)
            finally:
                await admin.close()

        return asyncio.run(asking())

    def stat(self, name: str) -> int:
        """A counter or gauge; 0 if there is none."""
        return self.ask(lambda admin: admin.stats(f"^{name}$".replace(".", "\\."))).get(name, 0)

    def apply(self, wanted: Catalog, served: Mapping[str, Sequence[str]] | None = None) -> Resources:
        """Write the files and wait until Envoy has taken them."""
        made = resources(wanted, self.settings, served or {})
        self.files.write(made)
        wait_until("Envoy to take its files", lambda: self.ask(lambda admin: admin.has_taken(made)))
        return made

    def expect_picker(self, is_healthy: bool) -> None:
        """Until Envoy thinks so of the picker."""
        wait_until(
            f"the picker to be {'' if is_healthy else 'un'}healthy",
            lambda: self.stat("cluster.picker.membership_healthy") == int(is_healthy),
        )


@contextlib.contextmanager
def data_plane(wanted: Catalog, tmp_path: Path, **settings: Any) -> Iterator[DataPlane]:
    """Envoy on a free port, having read its files."""
    with RuntimeDirectory() as paths, (tmp_path / "envoy.log").open("wb") as log:
        made = EnvoySettings(paths, listen_port=0, **settings)
        files = EnvoyFiles(paths)
        files.write(resources(wanted, made))
        process = subprocess.Popen(
            command(find_envoy(), paths, concurrency=2), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            running = DataPlane(made, files, process, tmp_path / "envoy.log")

            def port() -> int:
                assert process.poll() is None, running.log
                try:
                    ready = running.ask(lambda admin: admin.is_ready())
                    return running.ask(lambda admin: admin.listen_port()) or 0 if ready else 0
                except OSError:
                    return 0

            running.port = wait_until("Envoy to listen", port)
            yield running
        finally:
            process.kill()
            process.wait()


@dataclass
class ScriptedPicker:
    """A running `tests.kit.scripted_picker`."""

    process: subprocess.Popen[bytes]
    output: Path

    def told(self, key: str) -> list[dict[str, Any]]:
        """What it printed, of one kind (`headers`, `log`, `answer_bytes`)."""
        lines = [json.loads(line) for line in self.output.read_bytes().splitlines() if line.endswith(b"}")]
        return [line for line in lines if key in line]


@contextlib.contextmanager
def scripted_picker(
    running: DataPlane, pools: Mapping[str, tuple[str, str]], tmp_path: Path, fault: str = "none"
) -> Iterator[ScriptedPicker]:
    """A picker that Envoy thinks healthy. `pools`: model name to pool and destination list."""
    running.expect_picker(is_healthy=False)
    socket = Path(running.settings.paths.picker_socket)
    socket.unlink(missing_ok=True)
    output = tmp_path / "picker.log"
    script = msgspec.json.encode({"pools": pools, "fault": fault}).decode()
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.scripted_picker", str(socket), script],
            stdin=subprocess.DEVNULL, stdout=log, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    try:
        picker = ScriptedPicker(process, output)
        wait_until("the picker to serve", lambda: picker.told("serving"))
        running.expect_picker(is_healthy=True)
        yield picker
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)
