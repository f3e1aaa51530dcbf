"""What containers write: kept with the time of every line, and found again."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

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
