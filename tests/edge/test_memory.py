"""The allocator's settings, seen from the kernel's counters."""

import subprocess
import sys

_PROGRAM = """
import resource
from stellwerk.edge import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        bodies = [bytes(400_000) for _ in range(4)]
        bodies.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
if memory.keep_freed():
    print(before, faults())
"""


def test_memory_that_was_freed_is_used_again_without_asking_the_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    if done.stdout:  # the C library has the setting
        before, after = map(int, done.stdout.split())
        assert after < before / 10, done.stdout
