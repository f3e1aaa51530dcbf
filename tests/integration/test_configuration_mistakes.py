"""Mistakes at the start: each is one line that says what to do, or a warning and a `/readyz` that names the reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.processes import call, free_port, gateway, simulated_servers, stellwerk, wait_until

pytestmark = pytest.mark.integration


def refusal(*arguments: str) -> str:
    """What a command that cannot start says; it ends by itself, and shows no stack."""
    done = subprocess.run(
        [sys.executable, "-m", "stellwerk", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr + done.stdout


def test_one_port_for_clients_and_admin_is_refused() -> None:
    port = free_port()
    for listen, admin in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "[::]")):
        said = refusal("run", "--server", "127.0.0.1:1", "--listen", f"{listen}:{port}", "--admin", f"{admin}:{port}")
        assert f"--listen and --admin both want port {port}" in said


def test_clients_need_an_address_that_envoy_can_listen_on() -> None:
    assert "gateway.example is not an IP address" in refusal("run", "--server", "a:1", "--listen", "gateway.example:80")
    assert "port 0" in refusal("run", "--server", "a:1", "--listen", "127.0.0.1:0")


def test_localhost_is_an_address_to_listen_on() -> None:
    port, admin = free_port(), free_port()
    with stellwerk(
        "run", "--server", "127.0.0.1:1", "--listen", f"localhost:{port}", "--admin", f"localhost:{admin}"
    ) as child:
        wait_until("the gateway", lambda: "ready for requests" in child.log)
        assert call(f"http://127.0.0.1:{port}/v1/models").status == 200


def test_credentials_of_a_server_are_not_repeated() -> None:
    for url in ("http://user:canary@127.0.0.1:1", "user:canary@127.0.0.1:1"):
        said = refusal("run", "--server", url)
        assert "credentials do not belong" in said
        assert "canary" not in said


def test_a_directory_without_objects_is_said_to_be_one(tmp_path: Path) -> None:
    with gateway("-f", str(tmp_path), is_ready=False) as running:
        wait_until("the warning", lambda: "no InferencePool is configured" in running.child.log)
        page = call(f"{running.admin_url}/readyz")
        assert page.status == 503
        assert page.json()["reasons"] == ["no InferencePool is configured"]


def test_a_picker_for_a_pool_that_is_not_there_is_not_ready() -> None:
    grpc, health, admin = free_port(), free_port(), free_port()
    ports = ("--grpc-port", str(grpc), "--grpc-health-port", str(health), "--metrics-port", str(admin))
    with (
        simulated_servers(1, "--speed", "instant") as sim,
        stellwerk("epp", "--server", sim.urls[0], "--pool-name", "other", *ports) as picker,
    ):
        wait_until("the warning", lambda: "there is no InferencePool default/other" in picker.log)
        page = call(f"http://127.0.0.1:{admin}/readyz")
        assert page.status == 503
        assert page.json()["reasons"] == ["there is no InferencePool default/other (--pool-name, --pool-namespace)"]
