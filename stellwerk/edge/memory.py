"""How the process asks the kernel for memory: request bodies come and go by the hundred kilobytes.

glibc returns the top of its heap as soon as some 128 KB of it are free, and asks again with the next body; each page
then costs a fault. With bodies of 400 KB that was half of all CPU time (docs/decisions/request-path.md).
"""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
_KEPT_BYTES: Final = 64 * 1024 * 1024
_LARGE_BYTES: Final = 32 * 1024 * 1024
"""The most that glibc takes for this parameter."""


def keep_freed() -> bool:
    """Let the allocator keep up to 64 MiB that are free. False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _LARGE_BYTES))
