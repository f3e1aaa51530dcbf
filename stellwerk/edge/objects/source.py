"""The objects as they stand in files and flags, followed through every change: validate, then swap.

`load` once, then `run`. A broken or half-written file changes nothing: the last good state goes on serving, and the
log, `status` and through it metrics and `/readyz` say so.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from stellwerk.blueprint import Blueprint, Draft, Source, build, draft
from stellwerk.control.changes import changes
from stellwerk.control.document import DEFAULT_LIMITS, ReadingLimits
from stellwerk.control.finding import Finding
from stellwerk.control.membership import Addresses
from stellwerk.edge.objects.dns import Names, Resolver, system_resolver
from stellwerk.edge.objects.files import Fingerprint, contents, fingerprint
from stellwerk.edge.objects.watch import watch

log = logging.getLogger("stellwerk.objects")

MAX_LOGGED = 20
"""Findings of one reload that are logged; all of them are in `status`."""


class Pace(Struct, frozen=True):
    """How often to look, in seconds."""

    look_seconds: float = 2.0
    """Between two looks at the files when nothing notifies."""
    settle_seconds: float = 0.05
    """Files must have been still for so long before they are read: editors write in several steps."""
    settle_limit_seconds: float = 2.0
    resolve_seconds: float = 30.0
    """Between two look-ups of a name, give or take a tenth."""
    resolve_retry_seconds: float = 3.0
    """The same while a name has no address at all."""
    resolve_timeout_seconds: float = 5.0


class Status(Struct):
    """How it goes; written by the source only. Times are Unix seconds."""

    good: int = 0
    """Readings that were put into effect or found unchanged, the first one included."""
    bad: int = 0
    """Readings that were refused because of `problems`."""
    last_good_at: float | None = None
    last_bad_at: float | None = None
    problems: tuple[Finding, ...] = ()
    """Of the last reading; empty if it was good."""
    warnings: tuple[Finding, ...] = ()
    """Of what is in effect."""
    unresolved: tuple[str, ...] = ()
    """DNS names whose last look-up failed."""

    @property
    def is_stale(self) -> bool:
        """Whether what is in effect is not what the files say."""
        return bool(self.problems)


class ObjectsInvalid(Exception):
    """The first reading failed. `problems` are all there are."""

    def __init__(self, problems: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ObjectSource:
    """Files, directories and `--server` URLs as one Blueprint after another. Owns the current draft and blueprint."""

    def __init__(
        self,
        paths: Iterable[str] = (),
        servers: Iterable[str] = (),
        picker_config: str | None = None,
        texts: Iterable[Source] = (),
        limits: ReadingLimits = DEFAULT_LIMITS,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        resolver: Resolver = system_resolver,
    ) -> None:
        self.status = Status()
        self.current = Blueprint(build(Draft(), {}).catalog)
        self._paths, self._servers, self._picker_config = tuple(paths), tuple(servers), picker_config
        self._texts = tuple(texts)
        self._limits, self._pace = limits, pace
        self._names = Names(resolver, pace.resolve_timeout_seconds)
        self._draft = Draft()
        self._seen: Fingerprint = ()
        self._wake = asyncio.Event()
        self._must_rebuild = False

    @property
    def _watched(self) -> tuple[str, ...]:
        return self._paths if self._picker_config is None else (*self._paths, self._picker_config)

    async def load(self) -> Blueprint:
        """Read everything for the first time. Raises `ObjectsInvalid`; names that do not resolve are no reason to."""
        self._seen = await asyncio.to_thread(fingerprint, self._watched)
        drawn = await asyncio.to_thread(self._read)
        if drawn.problems:
            self._refuse(drawn.problems)
            raise ObjectsInvalid(drawn.problems)
        await self._names.refresh(drawn.names)
        self._draft = drawn
        self.current = build(drawn, self._names.addresses, generation=1)
        self._accept(self.current.warnings)
        self._count_good()
        _log_findings(self.current.warnings)
        _log_findings(self.current.notes, logging.INFO)
        return self.current

    async def run(self, apply: Callable[[Blueprint], None]) -> None:
        """Follow the files and names until cancelled; `apply` gets every blueprint that differs from the one before."""
        async with asyncio.TaskGroup() as group:
            if self._watched:
                group.create_task(watch(self._watched, self._wake.set), name="objects: notifications")
            group.create_task(self._follow_names(), name="objects: names")
            group.create_task(self._follow_files(apply), name="objects: files")

    async def _follow_files(self, apply: Callable[[Blueprint], None]) -> None:
        """The only task that changes what is current."""
        while True:
            try:
                async with asyncio.timeout(self._pace.look_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            before = self.current
            await self._follow_once()
            if self.current is not before:
                apply(self.current)

    async def _follow_once(self) -> None:
        """Take in what changed. The one door: a bug in reading must not end what is being served."""
        try:
            if await asyncio.to_thread(fingerprint, self._watched) != self._seen:
                await self._reload()
            elif self._must_rebuild:
                await self._swap(self._draft)
        except Exception as bug:
            self._must_rebuild = False
            self._refuse((Finding(", ".join(self._watched), 0, 0, "", f"internal error while reading: {bug!r}"),))
            log.exception("objects not reloaded, by a bug; the last good state stays in effect")

    async def _follow_names(self) -> None:
        """Ask again for every name, and more often while one has no address."""
        while True:
            is_known = all(name in self._names.addresses for name in self._draft.names)
            pause = self._pace.resolve_seconds if is_known else self._pace.resolve_retry_seconds
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))
            has_changed = await self._names.refresh(self._draft.names)
            self._note_unresolved()
            if has_changed:
                self._must_rebuild = True
                self._wake.set()

    async def _reload(self) -> None:
        """Read what changed once it is still; put it into effect if it is right."""
        self._seen = await self._settled()
        drawn = await asyncio.to_thread(self._read)
        if drawn.problems:
            self._refuse(drawn.problems)
            log.error(
                "objects not reloaded; the last good state stays in effect",
                extra={"fields": {"problems": len(drawn.problems), "generation": self.current.catalog.generation}},
            )
            _log_findings(drawn.problems, logging.ERROR)
            return
        await self._names.refresh(drawn.names - self._names.addresses.keys())
        await self._swap(drawn)
        self._count_good()

    async def _settled(self) -> Fingerprint:
        """The fingerprint once it has not changed for `settle_seconds`, or after `settle_limit_seconds`."""
        deadline = asyncio.get_running_loop().time() + self._pace.settle_limit_seconds
        last = await asyncio.to_thread(fingerprint, self._watched)
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(self._pace.settle_seconds)
            now = await asyncio.to_thread(fingerprint, self._watched)
            if now == last:
                break
            last = now
        return last

    def _read(self) -> Draft:
        """Runs on a thread: a large file takes a while to parse."""
        read = contents(self._paths, self._picker_config, self._limits)
        drawn = draft((*read.sources, *self._texts), self._servers, self._limits)
        if not read.problems:
            return drawn
        return Draft(problems=tuple(sorted((*read.problems, *drawn.problems))))

    async def _swap(self, drawn: Draft) -> None:
        """Make `drawn` what is in effect; the old blueprint stays if nothing that matters is different."""
        self._must_rebuild = False
        self._names.keep(drawn.names)
        new, lines = await asyncio.to_thread(_successor, self.current, drawn, self._names.addresses)
        self._draft = drawn
        if lines:
            self.current = new
            log.info("objects reloaded", extra={"fields": {"generation": new.catalog.generation, "count": len(lines)}})
            for line in lines:
                log.info("changed: %s", line)
        if _messages(new.warnings) != _messages(self.status.warnings):
            _log_findings(new.warnings)
        self._accept(new.warnings)

    def _accept(self, warnings: tuple[Finding, ...]) -> None:
        """What is in effect, and what is odd about it. The problems of a refused reading stay: names change too."""
        self.status.warnings = warnings
        self._note_unresolved()

    def _note_unresolved(self) -> None:
        """A look-up that was under way while the draft changed may have been for a name that is gone."""
        self.status.unresolved = tuple(sorted(self._names.failing.keys() & self._draft.names))

    def _count_good(self) -> None:
        self.status.good += 1
        self.status.last_good_at = time.time()
        self.status.problems = ()

    def _refuse(self, problems: tuple[Finding, ...]) -> None:
        self.status.bad += 1
        self.status.last_bad_at = time.time()
        self.status.problems = problems


def _successor(old: Blueprint, drawn: Draft, addresses: Addresses) -> tuple[Blueprint, tuple[str, ...]]:
    """The blueprint of `drawn`, and what is different from `old`, in lines; none: nothing that matters."""
    new = build(drawn, addresses, old.catalog.generation + 1)
    lines = changes(old.catalog, new.catalog)
    if not lines and replace(new.catalog, generation=old.catalog.generation) != old.catalog:
        lines = ("identity of servers: they start without history",)
    return new, lines if old.picker == new.picker else (*lines, "picker configuration")


def _messages(findings: Iterable[Finding]) -> list[str]:
    """What findings say, wherever they stand now."""
    return [f"{finding.path}: {finding.message}" for finding in findings]


def _log_findings(findings: tuple[Finding, ...], level: int = logging.WARNING) -> None:
    for finding in findings[:MAX_LOGGED]:
        log.log(level, "%s", finding)
    if len(findings) > MAX_LOGGED:
        log.log(level, "and %d more; `stellwerk validate` shows all", len(findings) - MAX_LOGGED)
