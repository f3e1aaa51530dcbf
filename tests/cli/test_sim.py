"""`stellwerk sim`: what it prints, the ports file, how it ends, what it says about mistakes."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from stellwerk.cli.sim import sim
from tests.kit.processes import wait_until

LAUNCH = [sys.executable, "-c", "from stellwerk.cli.sim import sim; sim()"]


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    ports_file = tmp_path / "ports"
    arguments = ["--port", "0", "--count", "2", "--model", "llama", "--lora", "sql", "--ports-file", str(ports_file)]
    process = subprocess.Popen(
        [*LAUNCH, *arguments, "--fault", "1:slow=2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until("the ports file", ports_file.exists)
        ports = [int(line) for line in ports_file.read_text().splitlines()]
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/v1/models") as answer:
            assert b'"sql"' in answer.read()
    finally:
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == [
        f"http://127.0.0.1:{ports[0]}  llama, adapters sql",
        f"http://127.0.0.1:{ports[1]}  llama, adapters sql  (fault: slow)",
    ]


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(sim, ["--port", str(port)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "0:wegde"], "did you mean 'wedge'?"),
        (["--fault", "3:wedge"], "names server '3'"),
        (["--count", "0"], "count is 0"),
        (["--port", "70000"], "70000"),
        (["--num-blocks", "0"], "block_count is 0"),
        (["--num-blocks", "4", "--max-model-len", "1000"], "KV memory holds 64 tokens"),
        (["--lora", "a", "--max-loras", "0"], "max_adapters is 0"),
        (["--step-ms", "-1"], "must not be negative"),
        (["--speed", "warp"], "warp"),
    ],
)
def test_mistakes_are_named(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(sim, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_help_teaches_faults_and_examples() -> None:
    output = CliRunner().invoke(sim, ["--help"]).output
    assert "stellwerk sim --count 4" in output
    assert "metrics-garbage" in output
