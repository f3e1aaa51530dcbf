"""Logs of containers."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.cluster import logs
from tests.kit.processes import wait_until


def kept(path: Path, *lines: bytes) -> None:
    """Lines that went through a pipe, as a container's do."""
    reading, writing = os.pipe()
    logs.keep(os.fdopen(reading, "rb"), path)
    with os.fdopen(writing, "wb") as output:
        output.writelines(line + b"\n" for line in lines)
    wait_until("all lines", lambda: path.exists() and path.read_bytes().count(b"\n") == len(lines))


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    kept(tmp_path / "log", b"one two", b"", b"three")
    assert logs.read(tmp_path / "log") == b"one two\n\nthree\n"


def test_only_lines_of_the_asked_time_come_back(tmp_path: Path) -> None:
    kept(tmp_path / "log", b"old")
    assert logs.read(tmp_path / "log", datetime.now(UTC) - timedelta(minutes=1)) == b"old\n"
    assert logs.read(tmp_path / "log", datetime.now(UTC) + timedelta(minutes=1)) == b""


def test_the_last_lines_alone_may_be_asked_for(tmp_path: Path) -> None:
    kept(tmp_path / "log", b"1", b"2", b"3")
    assert logs.read(tmp_path / "log", tail=2) == b"2\n3\n"
    assert logs.read(tmp_path / "log", tail=0) == b""
