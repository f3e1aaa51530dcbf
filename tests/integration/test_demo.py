"""The demo checks itself, shows its table, and leaves nothing behind."""

import signal
import subprocess
import sys

import pytest

from stellwerk.control.document import read
from stellwerk.control.intake import take_in
from stellwerk.demo import scenario
from tests.kit.processes import Child, children_of, stellwerk, wait_until

pytestmark = pytest.mark.integration


def test_once_checks_itself_and_exits() -> None:
    command = [sys.executable, "-m", "stellwerk", "demo", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout
    assert done.stdout.count("ok ") >= 9


def test_an_interrupt_ends_everything() -> None:
    with stellwerk("demo", "--servers", "2") as child:
        wait_until("the table's hints", lambda: _says(child, "/v1/chat/completions"), seconds=60)
        started = wait_until("Envoy among its processes", lambda: _with_envoy(children_of(child.process.pid)))
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) in (0, 130)
        wait_until("every child to be gone", lambda: not set(started) & _alive(started))


def test_the_scenario_is_made_of_valid_objects() -> None:
    text = read("demo.yaml", scenario.objects([8001, 8002]).encode())
    taken = take_in(text.documents)
    assert not text.problems
    assert not taken.problems
    assert len(taken.items) == 2 + 1 + 3


def _with_envoy(processes: dict[int, str]) -> dict[int, str]:
    """The processes, if Envoy is one of them."""
    return processes if any("envoy" in line for line in processes.values()) else {}


def _says(child: Child, text: str) -> bool:
    child.expect_alive()
    return text in child.log


def _alive(pids: dict[int, str]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] != "Z":
                    found.add(pid)
        except OSError:
            continue
    return found
