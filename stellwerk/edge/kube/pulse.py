"""Whether the API server is there at all. A quiet watch does not say: the kernel keeps the connection of a process that
stands still.

Whatever the server answers is a sign of life; only when it said nothing for a while it is asked, and once it failed to
answer it is asked until it does.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from stellwerk.edge.kube.errors import ApiError
from stellwerk.model.chance import Chance

log = logging.getLogger("stellwerk.kube")


class PulsePace(Struct, frozen=True):
    """In seconds."""

    quiet_seconds: float = 5.0
    """Silence after which the server is asked, and the time between two questions; drawn up to a fifth off."""
    answer_seconds: float = 5.0
    """How long an answer may take."""


DEFAULT_PULSE = PulsePace()


class Pulse:
    """One client's view of its server. Owner of when it was last heard."""

    def __init__(
        self, ask: Callable[[], Awaitable[object]], pace: PulsePace = DEFAULT_PULSE, chance: Chance | None = None
    ) -> None:
        """`ask` asks the server for next to nothing, and raises ApiError."""
        self.error = ""
        """Why the last question was not answered well; empty: it was."""
        self._ask, self._pace, self._chance = ask, pace, chance or random.Random()
        self._heard_at = time.monotonic()
        self._asked_at = float("-inf")
        self._quiet_seconds = self._drawn()

    @property
    def silent_seconds(self) -> float:
        """Since the server was last heard; 0 while it answers."""
        return time.monotonic() - self._heard_at if self.error else 0.0

    def heard(self) -> None:
        """The server said something."""
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        """Ask when it is quiet, until cancelled. All who follow objects through one client may run it: they ask in
        turn."""
        while True:
            since = self._asked_at if self.error else max(self._heard_at, self._asked_at)
            wait = since + self._quiet_seconds - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            self._asked_at = time.monotonic()
            self._quiet_seconds = self._drawn()
            await self._try()

    def _drawn(self) -> float:
        """So that not everybody asks at once."""
        return self._pace.quiet_seconds * (0.8 + 0.4 * self._chance.random())

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(self._pace.answer_seconds):
                await self._ask()
        except ApiError as error:
            if not 0 < error.status < 500:
                self._failed(str(error))
                return
        except TimeoutError:
            self._failed(f"no answer within {self._pace.answer_seconds:g} s")
            return
        self.heard()
        if self.error:
            log.info("the API server answers again")
            self.error = ""

    def _failed(self, error: str) -> None:
        if not self.error:
            log.warning("the API server gives no sign of life: %s; the last state stays in effect", error)
        self.error = error
