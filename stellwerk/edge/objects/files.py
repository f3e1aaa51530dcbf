"""Object files on disk: which ones a path stands for, what is in them, and a fingerprint that tells of changes."""

import os
import stat
from collections.abc import Iterable, Iterator

from msgspec import Struct

from stellwerk.blueprint import Source
from stellwerk.control.document import DEFAULT_LIMITS, ReadingLimits
from stellwerk.control.finding import Finding

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILES = 1_000
"""Files of all paths together."""

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change (ctime: chmod counts too) of every file; size -1 for what is not there."""


class Contents(Struct, frozen=True):
    """What was read, and what could not be."""

    sources: tuple[Source, ...]
    problems: tuple[Finding, ...]


def files_of(paths: Iterable[str], limit: int = MAX_FILES) -> Iterator[str]:
    """The files that `paths` stand for, sorted within each directory, each once: a file stands for itself, a directory
    for all YAML and JSON files below it. Names that start with a dot are left out, as editors and volume mounts expect.
    At most `limit` + 1 files: one more tells of the excess."""
    seen: set[str] = set()
    for path in paths:
        for name in _below(path) if os.path.isdir(path) else (path,):
            if name not in seen:
                seen.add(name)
                yield name
                if len(seen) > limit:
                    return


def _below(directory: str) -> Iterator[str]:
    for where, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(where, name)


def fingerprint(paths: Iterable[str]) -> Fingerprint:
    """Changes whenever a file of `paths` is written, replaced, added or removed, also behind a symbolic link."""
    return tuple(_print_of(name) for name in files_of(paths))


def _print_of(name: str) -> tuple[str, int, int, int]:
    try:
        status = os.stat(name)
    except OSError:
        return (name, 0, -1, 0)
    return (name, status.st_ino, status.st_size, status.st_ctime_ns)


def contents(
    paths: Iterable[str], picker_config: str | None = None, limits: ReadingLimits = DEFAULT_LIMITS
) -> Contents:
    """Read everything; a file that cannot be read is a problem among the others."""
    sources: list[Source] = []
    problems: list[Finding] = []
    named = [(name, False) for name in files_of(paths)]
    if len(named) > MAX_FILES:
        return Contents((), (Finding(named[-1][0], 0, 0, "", f"more than {MAX_FILES:,} files: name fewer"),))
    if picker_config is not None:
        named = [pair for pair in named if not _is_same(pair[0], picker_config)] + [(picker_config, True)]
    for name, is_config in named:
        try:
            sources.append(Source(name, _read(name, limits.max_bytes + 1), is_config))
        except OSError as error:
            problems.append(Finding(name, 0, 0, "", f"cannot be read: {error.strerror or error}"))
    return Contents(tuple(sources), tuple(problems))


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _read(name: str, limit: int) -> bytes:
    """At most `limit` bytes of a regular file. Never waits: opening a pipe without a writer would."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(limit)
