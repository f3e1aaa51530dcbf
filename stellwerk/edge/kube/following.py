"""How following an API server goes: what is behind, what was left out, and when it is time to build again."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator

from stellwerk.control.finding import Finding
from stellwerk.edge.kube.pulse import Pulse
from stellwerk.edge.kube.reflector import Reflector

log = logging.getLogger("stellwerk.kube")

MAX_LOGGED = 20
STALE_SECONDS = 15.0
"""Age from which what is in effect counts as stale."""


class Gathering:
    """Many changes, one build: says when to. Owner of the time that is due."""

    def __init__(self, share: float) -> None:
        """`share` of a core may be spent building; beyond it changes wait longer."""
        self._share = share
        self._due = float("inf")
        self._earliest = float("-inf")
        self._began = 0.0
        self._wake = asyncio.Event()

    def soon(self, seconds: float) -> None:
        """Something changed that should be in effect after `seconds`."""
        self._due = min(self._due, time.monotonic() + seconds)
        self._wake.set()

    async def due(self) -> None:
        """Until it is time."""
        while (wait := max(self._due, self._earliest) - time.monotonic()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait if wait != float("inf") else None):
                    await self._wake.wait()
            except TimeoutError:
                continue
        self._due = float("inf")
        self._began = time.thread_time()

    def done(self) -> None:
        """What `due` was for is over; nothing was awaited meanwhile."""
        self._earliest = time.monotonic() + (time.thread_time() - self._began) * (1 / self._share - 1)


class Status:
    """How it goes. Times are Unix seconds."""

    def __init__(self, reflectors: Callable[[], Collection[Reflector]], pulse: Pulse) -> None:
        self._reflectors, self._pulse = reflectors, pulse
        self.good = 0
        """Blueprints put into effect or found unchanged."""
        self.bad = 0
        """Blueprints made while objects were left out because of `problems`."""
        self.last_good_at: float | None = None
        self.last_bad_at: float | None = None
        self.findings: tuple[Finding, ...] = ()
        """What is wrong with single objects; they are left out."""
        self.warnings: tuple[Finding, ...] = ()
        self.unresolved: tuple[str, ...] = ()
        """No names are resolved here."""

    def built(self, findings: tuple[Finding, ...], warnings: tuple[Finding, ...]) -> None:
        """A Blueprint was made, without the objects that `findings` are about. What is new is logged."""
        known = {*self.findings, *self.warnings}
        for finding in [one for one in (*findings, *warnings) if one not in known][:MAX_LOGGED]:
            log.warning("%s", finding)
        if findings and findings != self.findings:
            self.bad += 1
            self.last_bad_at = time.time()
        elif not findings:
            self.good += 1
            self.last_good_at = time.time()
        self.findings, self.warnings = findings, warnings

    @property
    def age_seconds(self) -> float:
        """How old what is in effect may be: 0 while all watches are open and the server answers; infinite before the
        first lists."""
        return max((reflector.age_seconds for reflector in self._reflectors()), default=0.0)

    @property
    def is_stale(self) -> bool:
        """Whether the API server has said nothing for a while."""
        return self.age_seconds >= STALE_SECONDS

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What was never listed."""
        return tuple(str(reflector) for reflector in self._reflectors() if not reflector.synced)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Objects that are left out, a server that does not answer, and kinds that cannot be followed right now."""
        lagging = (finding for one in self._reflectors() if (finding := _lagging(one)) is not None)
        return (*self.findings, *silence(self._pulse), *lagging)


def silence(pulse: Pulse) -> Iterator[Finding]:
    """What is wrong with the API server as a whole, if anything is."""
    if pulse.error:
        since = f"last heard {pulse.silent_seconds:.0f} s ago; the state of then stays in effect"
        yield Finding("API server", 0, 0, "", f"{pulse.error} ({since})")


def _lagging(reflector: Reflector) -> Finding | None:
    if not reflector.error:
        return None
    age = reflector.age_seconds
    known = f"the state of {age:.0f} s ago stays in effect" if reflector.synced else "never read"
    return Finding(str(reflector), 0, 0, "", f"{reflector.error} ({known})")
