"""Real processes for integration tests: simulated servers, gateway, picker. Each is ended by its own handle."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
"""Generous, because machines are shared. Nothing waits this long when all is well."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(what: str, check: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """Poll until `check()` is truthy and return that; AssertionError naming `what` when the time is up."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(0.02)


@dataclass
class Answer:
    """One HTTP answer, of any status. `headers` has lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def call(
    url: str,
    body: bytes | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    timeout: float = DEADLINE_SECONDS,
) -> Answer:
    """One request; an error status is an answer like any other, a broken connection raises OSError."""
    data = json.dumps(body).encode() if isinstance(body, Mapping) else body
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("content-type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@dataclass
class Child:
    """A process and its log."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self.log_path.read_text(errors="replace")

    def expect_alive(self) -> None:
        """AssertionError with the log when it has ended."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log[-4000:]}"

    def stop(self, seconds: float = DEADLINE_SECONDS) -> int:
        """SIGTERM, then SIGKILL after `seconds`; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def stellwerk(*arguments: str, env: Mapping[str, str] | None = None) -> contextlib.AbstractContextManager[Child]:
    """Run `stellwerk ARGUMENTS...` for the duration of the block."""
    return started(sys.executable, "-m", "stellwerk", *arguments, env=env)


@contextlib.contextmanager
def started(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run any program for the duration of the block."""
    with tempfile.TemporaryDirectory(prefix="stellwerk-test-") as directory:
        log_path = Path(directory) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )
        child = Child(process, log_path)
        try:
            yield child
        finally:
            child.stop()


@dataclass
class Sim:
    """Simulated servers of one process."""

    child: Child
    ports: list[int]

    @property
    def urls(self) -> list[str]:
        """`http://127.0.0.1:PORT` of each."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def fault(self, index: int, kind: str, **parameters: Any) -> None:
        """Break one server, as `POST /sim/fault` does."""
        answer = call(f"{self.urls[index]}/sim/fault", {"kind": kind, **parameters})
        assert answer.status == 200, answer.body


@contextlib.contextmanager
def simulated_servers(count: int = 1, *arguments: str) -> Iterator[Sim]:
    """`count` servers on free ports, answering."""
    with tempfile.TemporaryDirectory(prefix="stellwerk-sim-") as directory:
        ports_file = Path(directory) / "ports"
        with stellwerk(
            "sim", "--port", "0", "--count", str(count), "--ports-file", str(ports_file), *arguments
        ) as child:

            def ports() -> list[int]:
                child.expect_alive()
                found = [int(line) for line in ports_file.read_text().split()] if ports_file.exists() else []
                return found if len(found) == count else []

            yield Sim(child, wait_until(f"{count} simulated servers", ports))


@dataclass
class Gateway:
    """A running gateway."""

    child: Child
    url: str
    admin_url: str

    def metrics(self) -> str:
        """The text of `/metrics`."""
        return call(f"{self.admin_url}/metrics").body.decode()

    def pools(self) -> Any:
        """`/api/pools`."""
        return call(f"{self.admin_url}/api/pools").json()


@contextlib.contextmanager
def gateway(*arguments: str, is_ready: bool = True) -> Iterator[Gateway]:
    """`stellwerk run` on free ports; with `is_ready`, after it said so and Envoy answers."""
    port, admin_port = free_port(), free_port()
    listen = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}")
    with stellwerk("run", *listen, *arguments) as child:
        running = Gateway(child, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")

        def ready() -> bool:
            child.expect_alive()
            try:
                is_picker_ready = call(f"{running.admin_url}/readyz", timeout=2).status == 200
                return is_picker_ready and call(f"{running.url}/v1/models", timeout=5).status == 200
            except OSError:
                return False

        if is_ready:
            try:
                wait_until("the gateway to be ready", ready)
            except AssertionError as problem:
                raise AssertionError(f"{problem}\n{child.log[-4000:]}") from None
        yield running


def children_of(pid: int) -> dict[int, str]:
    """Live descendants of a process with their command lines."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= children_of(child)
    return found


def picker_of(running: Gateway) -> int:
    """Process id of the gateway's picker."""
    (pid,) = (pid for pid, line in children_of(running.child.process.pid).items() if "stellwerk.app picker" in line)
    return pid
