"""CPU time of processes, from the scheduler's own nanosecond counters."""

from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Seconds on CPU of all threads of `pid`, user and system (proc(5), `schedstat`)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


class CpuMeter:
    """CPU seconds of some processes since the meter was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.start = {pid: cpu_seconds(pid) for pid in pids}

    def used(self, pid: int) -> float:
        """Seconds of one of them."""
        return cpu_seconds(pid) - self.start[pid]
