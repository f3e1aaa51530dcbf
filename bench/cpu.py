"""CPU time and memory of processes, as the kernel counts them."""

from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Seconds on CPU of all threads of `pid`, user and system (proc(5), `schedstat`)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """Memory of `pid` that is in RAM (proc(5), VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class CpuMeter:
    """CPU seconds of some processes since the meter was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.start = {pid: cpu_seconds(pid) for pid in pids}

    def used(self, pid: int) -> float:
        """Seconds of one of them."""
        return cpu_seconds(pid) - self.start[pid]
