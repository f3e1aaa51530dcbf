"""Tells when files may have changed: the kernel's notifications where they work, a look every few seconds always.

Notifications are hints only. They miss network file systems, links that are swapped elsewhere, and directories that
come later; the look at the fingerprint does not.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

import watchfiles

from stellwerk.edge.objects.files import files_of

log = logging.getLogger("stellwerk.objects")
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs every notification

RETRY_SECONDS = 60.0


def directories_of(paths: Iterable[str]) -> frozenset[str]:
    """The directories whose entries matter: of every file, and of where its link leads."""
    found = set()
    named = list(paths)
    for name in [*files_of(named), *named]:
        for place in (name, os.path.realpath(name)):
            directory = place if os.path.isdir(place) else os.path.dirname(os.path.abspath(place))
            if os.path.isdir(directory):
                found.add(os.path.realpath(directory))
    return frozenset(found)


async def watch(paths: Iterable[str], on_change: Callable[[], None]) -> None:
    """Call `on_change` soon after anything happens next to `paths`, until cancelled."""
    named = tuple(paths)
    while True:
        directories = await asyncio.to_thread(directories_of, named)
        if not directories:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            await _watch_directories(named, directories, on_change)
        except (OSError, RuntimeError) as error:
            log.info("no file notifications (%s): looking every few seconds instead", error)
            await asyncio.sleep(RETRY_SECONDS)


async def _watch_directories(
    named: tuple[str, ...], directories: frozenset[str], on_change: Callable[[], None]
) -> None:
    """Until the set of directories is another one."""
    changes = watchfiles.awatch(*directories, watch_filter=None, debounce=50, step=20, recursive=False)
    try:
        async for _ in changes:
            on_change()
            if await asyncio.to_thread(directories_of, named) != directories:
                return
    finally:
        await changes.aclose()
