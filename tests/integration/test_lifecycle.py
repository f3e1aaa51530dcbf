"""Beginnings and ends of `stellwerk run`: signals under load, a parent or Envoy that is killed, clients that leave."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.kit.processes import Gateway, call, children_of, gateway, simulated_servers, wait_until

pytestmark = pytest.mark.integration


@contextmanager
def load(running: Gateway, is_stream: bool) -> Iterator[Counter[str]]:
    """Eight clients that ask again and again; counts what became of each request."""
    counts: Counter[str] = Counter()
    over = threading.Event()
    body = {"model": "tiny", "max_tokens": 20, "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]}

    def client() -> None:
        connection = None
        while not over.is_set():
            connection = connection or http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=20)
            try:
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
                )
                answer = connection.getresponse()
                text = answer.read()
                counts["cut" if is_stream and b"[DONE]" not in text else str(answer.status)] += 1
                if not answer.will_close:
                    continue
            except ConnectionRefusedError:
                over.wait(0.02)
            except (OSError, http.client.HTTPException) as problem:
                counts[type(problem).__name__] += 1
            connection.close()
            connection = None

    clients = [threading.Thread(target=client, daemon=True) for _ in range(8)]
    for one in clients:
        one.start()
    try:
        yield counts
    finally:
        over.set()
        for one in clients:
            one.join(20)


def in_flight(running: Gateway) -> int:
    return sum(one["requests"] for one in running.pools()["pools"][0]["endpoints"])


def envoys_of(running: Gateway) -> set[int]:
    lines = children_of(running.child.process.pid).items()
    return {pid for pid, line in lines if line.partition(" ")[0].endswith("envoy")}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streams"])
def test_sigterm_under_load_fails_no_request(is_stream: bool) -> None:
    with (
        simulated_servers(2, "--speed", "laptop") as sim,
        gateway("--server", sim.urls[0], "--server", sim.urls[1]) as running,
        load(running, is_stream) as counts,
    ):
        wait_until("traffic", lambda: counts["200"] > 20)
        children = children_of(running.child.process.pid)
        assert running.child.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert set(counts) == {"200"}, counts


def test_a_second_sigterm_does_not_wait_for_running_requests() -> None:
    with simulated_servers(1, "--speed", "laptop") as sim, gateway("--server", sim.urls[0]) as running:
        host, port = running.url.removeprefix("http://").split(":")
        body = json.dumps({"model": "tiny", "max_tokens": 20_000, "ignore_eos": True, "messages": [], "stream": True})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port))) as client:
            client.sendall((head + body).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            running.child.process.send_signal(signal.SIGTERM)
            wait_until("draining", lambda: "draining" in running.child.log)
            assert running.child.process.poll() is None
            began = time.monotonic()
            assert running.child.stop() == 0
            assert time.monotonic() - began < 15  # The drain alone would take 30 s.


def test_a_killed_parent_leaves_no_process_and_the_next_start_clears_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with simulated_servers(1, "--speed", "instant") as sim:
        with gateway("--server", sim.urls[0]) as running:
            children = children_of(running.child.process.pid)
            assert len(children) == 2
            running.child.process.kill()
            running.child.process.wait()
            wait_until("no child", lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))
        (left,) = tmp_path.glob("stellwerk-*")
        with gateway("--server", sim.urls[0]):
            (fresh,) = tmp_path.glob("stellwerk-*")
            assert fresh != left
        assert not list(tmp_path.glob("stellwerk-*"))


def test_a_killed_envoy_comes_back() -> None:
    with simulated_servers(1, "--speed", "instant") as sim, gateway("--server", sim.urls[0]) as running:

        def answers() -> bool:
            try:
                return call(f"{running.url}/v1/models", timeout=5).status == 200
            except (OSError, http.client.HTTPException):
                return False

        def another(before: int) -> bool:
            return bool(envoys_of(running) - {before}) and answers()

        for _ in range(2):
            (before,) = envoys_of(running)
            os.kill(before, signal.SIGKILL)
            wait_until("another Envoy", partial(another, before), seconds=10)


def test_clients_that_leave_take_nothing_with_them() -> None:
    body = json.dumps({"model": "tiny", "max_tokens": 5_000, "ignore_eos": True, "messages": [], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with simulated_servers(1, "--speed", "laptop") as sim, gateway("--server", sim.urls[0]) as running:
        host, port = running.url.removeprefix("http://").split(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(90)]
        for number, client in enumerate(clients):
            whole = (head + body).encode()
            client.sendall(whole[: (20, len(head) + 5, len(whole))[number % 3]])
        wait_until("requests in flight", lambda: in_flight(running) == 30)
        for number, client in enumerate(clients):
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        wait_until("nothing in flight", lambda: in_flight(running) == 0)
        wait_until("no stream open", lambda: "\nllm_d_epp_extproc_streams_inflight 0\n" in running.metrics())
