"""Runs Envoy and the picker as child processes: whichever dies comes back, and none outlives this process.

A child that falls is started again at once, then with growing pauses; one that stood for a while starts with a clean
record. Stopping is orderly (drain, then end the children in order), a second signal ends it at once. Should this
process be killed with SIGKILL, the kernel kills the children.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

_log = logging.getLogger("stellwerk.supervisor")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_MAX_LINE_BYTES = 64 * 1024


LAST_WORDS_SECONDS = 1.0
"""How long the output of an ended child is still read; a grandchild may hold the pipe open for ever."""


class Program(Struct, frozen=True):
    """One child. `on_line` gets each line of its output; without it, the output goes where ours goes."""

    name: str
    argv: tuple[str, ...]
    on_line: Callable[[str], None] | None = None
    stop_seconds: float = 5.0
    """From SIGTERM to SIGKILL."""
    before: Callable[[], Awaitable[None]] | None = None
    """Awaited before the first start."""


class Pauses(Struct, frozen=True):
    """Before the n-th restart in a row: none before the first, then `first_seconds`, doubled up to `most_seconds`."""

    first_seconds: float = 0.5
    most_seconds: float = 10.0
    stable_seconds: float = 30.0
    """A child that ran for so long has no record any more."""

    def before(self, restarts: int) -> float:
        """Seconds to wait before restart number `restarts` (from 0)."""
        if restarts == 0:
            return 0.0
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(restarts - 1, 32))


class _Child(NamedTuple):
    process: Process
    output: asyncio.Task[None]


class Supervisor:
    """Owns the children. `drain` is awaited before they are ended; it should bound itself."""

    def __init__(
        self,
        programs: Sequence[Program],
        drain: Callable[[], Awaitable[None]] | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        self._programs = tuple(programs)
        self._drain = drain
        self._pauses = pauses or Pauses()
        self._running: dict[str, _Child] = {}
        self._restarts: dict[str, int] = dict.fromkeys((each.name for each in self._programs), 0)
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again, ever."""
        return dict(self._restarts)

    def pid(self, name: str) -> int | None:
        """The process id of a child that runs now."""
        child = self._running.get(name)
        return child.process.pid if child is not None else None

    def stop(self) -> None:
        """Drain and end; called again: end at once."""
        if self._stopping.is_set():
            self._killing.set()
        self._stopping.set()

    async def run(self, handle_signals: bool = True) -> None:
        """Runs the children until `stop`, or until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal, number)
        keepers = [asyncio.create_task(self._keep(each), name=f"keep {each.name}") for each in self._programs]
        try:
            stop = asyncio.create_task(self._stopping.wait(), name="stop")
            await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            await self._until_killed(self._orderly_end())
        finally:
            await self._end_everything(keepers)
            if handle_signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)
        for keeper in keepers:
            if not keeper.cancelled() and keeper.exception() is not None:
                keeper.result()

    def _on_signal(self, number: signal.Signals) -> None:
        _log.info("%s: %s", number.name, "stopping at once" if self._stopping.is_set() else "draining")
        self.stop()

    async def _until_killed(self, ending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(ending)
        kill = asyncio.create_task(self._killing.wait(), name="kill")
        await asyncio.wait([task, kill], return_when=asyncio.FIRST_COMPLETED)
        for each in (task, kill):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each

    async def _orderly_end(self) -> None:
        if self._drain is not None:
            await self._drain()
        for program in self._programs:
            child = self._running.get(program.name)
            if child is not None:
                await _end(child.process, program.stop_seconds)
                await asyncio.wait([child.output], timeout=LAST_WORDS_SECONDS)

    async def _end_everything(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for child in self._running.values():
            _signal_group(child.process, signal.SIGKILL)
            await child.process.wait()
            await _finish(child.output)
        self._running.clear()

    async def _keep(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        falls = 0
        if program.before is not None:
            await program.before()
        while not self._stopping.is_set():
            started = loop.time()
            child = self._running[program.name] = await _start(program)
            _log.info("%s started", program.name, extra={"fields": {"pid": child.process.pid}})
            await child.process.wait()
            if self._stopping.is_set():
                return
            _signal_group(child.process, signal.SIGKILL)
            await asyncio.wait([child.output], timeout=LAST_WORDS_SECONDS)
            await _finish(child.output)
            del self._running[program.name]
            lasted = loop.time() - started
            falls = 0 if lasted >= self._pauses.stable_seconds else falls
            pause = self._pauses.before(falls)
            _log.error(
                "%s %s after %.1f s; starting it again%s",
                program.name,
                how_it_ended(child.process.returncode),
                lasted,
                f" in {pause:g} s" if pause else "",
            )
            falls += 1
            self._restarts[program.name] += 1
            await asyncio.sleep(pause)


def how_it_ended(returncode: int | None) -> str:
    """In words: `exited with code 3`, `was killed by SIGSEGV`."""
    if returncode is None:
        return "is running"
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


async def _start(program: Program) -> _Child:
    """In a session of its own, so that a terminal's Ctrl-C reaches us alone, and its group can be signalled whole."""
    reading, writing = os.pipe() if program.on_line is not None else (None, None)
    try:
        process = await asyncio.create_subprocess_exec(
            *program.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()) if _libc is not None else None,
        )
    except BaseException:
        if reading is not None:
            os.close(reading)
        raise
    finally:
        if writing is not None:
            os.close(writing)
    return _Child(process, asyncio.create_task(_read_lines(reading, program.on_line), name=f"output of {program.name}"))


def _die_with(parent: int) -> Callable[[], None]:
    """For the child, between fork and exec: be killed when `parent` ends, and end now if it has already.

    The setting survives exec, except into set-user-id programs.
    """

    def set_death_signal() -> None:
        assert _libc is not None
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


async def _read_lines(descriptor: int | None, on_line: Callable[[str], None] | None) -> None:
    """Until the last process that holds the other end is gone. Lines longer than 64 KiB are cut into pieces.

    A pipe of our own, because asyncio's holds back a child's end until its grandchildren have let go of it.
    """
    if descriptor is None or on_line is None:
        return
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", 0)
    )
    try:
        rest = b""
        while chunk := await stream.read(_MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in filter(None, lines):
                on_line(line.decode(errors="replace"))
        if rest:
            on_line(rest.decode(errors="replace"))
    finally:
        transport.close()


async def _finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _end(process: Process, seconds: float) -> None:
    """SIGTERM to the process, SIGKILL to its whole group after `seconds`, or for what it left behind."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), seconds)
    _signal_group(process, signal.SIGKILL)
    await process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    """The child leads its group, so the group's id is its pid, also after it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
