"""Keeps a copy of one kind's objects: lists, then watches, and starts over whenever that is the way to be right.

Level-based: `on_change` names keys, and who is told looks at `objects`. While the API server is slow, gone or lying the
copy stays as it was, and `age_seconds` grows. `control.kube.replica` holds the rules about order and age.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping

import msgspec
from msgspec import Struct

from stellwerk.control.kube.replica import Keep, Replica
from stellwerk.control.kube.resource import Key, Object, Resource, without_bulk
from stellwerk.edge.kube.client import KubeClient, complete
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.stream import WatchEvent, WatchStream
from stellwerk.model.chance import Chance

__all__ = ["Reflector", "ReflectorPace", "Resource"]

log = logging.getLogger("stellwerk.kube")

OnChange = Callable[[Collection[Key]], None]
"""Told which objects are new, different or gone, after `objects` has changed. Must be quick and must not fail."""

MAX_OBJECTS = 200_000
MAX_UNOPENED = 3
"""Watches in a row that never began, before the objects are listed instead."""
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, RecursionError, msgspec.DecodeError)
_BREATH = 50
"""Objects decoded in one go: the event loop serves requests in between."""


class ReflectorPace(Struct, frozen=True):
    """Time between attempts, in seconds; every pause is drawn between a half and the whole."""

    watch_seconds: float = 600.0
    """How long a watch is asked for, drawn between a half and the whole. After each the objects are listed again: that
    finds what a proxy or a lagging replica kept from us."""
    retry_seconds: float = 0.2
    """First pause after a failure; doubles with each that follows."""
    retry_unanswered_seconds: float = 1.0
    """Longest pause while nobody answers: so that little time is lost once somebody does."""
    retry_refused_seconds: float = 15.0
    """Longest pause while the server answers with errors; and between lists in place of watches that never begin."""
    steady_seconds: float = 5.0
    """How long a watch must last for failures before it to be forgotten."""
    doubt_seconds: float = 2.0
    """Between two lists because of events that came out of order."""
    look_again_seconds: float = 10.0
    """Between two looks for a kind that is not installed, or that we may not read."""
    patience_seconds: float = 10.0
    """How long a list that is older than what was seen is refused. Then it holds: the server was restored."""
    gone_seconds: float = 30.0
    """How long a kind must be missing before its objects are taken for gone: a starting server knows none yet."""
    page_size: int = 250


DEFAULT_PACE = ReflectorPace()


class ReflectorCounts(Struct):
    """What happened since the start; read by metrics."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    errors: int = 0
    """Failed lists and watches, without watches that simply ended."""
    expired: int = 0
    """Times that the server no longer knew our version (410)."""
    stale_lists: int = 0
    """Lists refused as older than what was seen."""


class Reflector:
    """One kind, in one namespace or all, under one selector. `run` is called by one task at a time, and goes on where
    the last one was cancelled."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        keep: Keep = without_bulk,
        *,
        is_optional: bool = False,
        pace: ReflectorPace = DEFAULT_PACE,
        chance: Chance | None = None,
    ) -> None:
        """`is_optional`: a kind that is not installed, or that we may not read, counts as one without objects."""
        self.resource, self.namespace = resource, namespace
        self.label_selector, self.field_selector = label_selector, field_selector
        self.counts = ReflectorCounts()
        self.error = ""
        """Why it is not up to date; empty: it is, as far as anybody can know."""
        self.is_installed = True
        self._client, self._pace, self._is_optional = client, pace, is_optional
        self._chance = chance or random.Random()
        self._replica = Replica(keep)
        self._synced = asyncio.Event()
        self._is_watching = False
        self._heard_at = float("-inf")
        self._listed_at = float("-inf")
        self._missing_since: float | None = None
        self._stale_since: float | None = None
        self._failures = 0
        self._unopened = 0
        self._was_unanswered = False
        self._is_told = False
        """Whether the log says that it is not up to date."""

    @property
    def objects(self) -> Mapping[Key, Object]:
        """What is kept of every object. The mapping changes in place."""
        return self._replica.objects

    @property
    def synced(self) -> bool:
        """Whether there was ever a complete list."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Until `synced`; `run` must be running."""
        await self._synced.wait()

    @property
    def age_seconds(self) -> float:
        """How old the copy may be: 0 while a watch is open and the server answers, else the time since it last did;
        infinite before that."""
        if self._is_watching:
            return self._client.pulse.silent_seconds
        age = time.monotonic() - self._heard_at
        is_as_told = not self.is_installed and age <= 1.5 * self._pace.look_again_seconds
        return 0.0 if is_as_told else age

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource}{where}" + (f" ({self.label_selector})" if self.label_selector else "")

    async def run(self, on_change: OnChange) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if self._must_list():
                    await self._list(on_change)
                await self._watch(on_change)
            except ApiError as error:
                await asyncio.sleep(self._after(error, on_change))

    def _must_list(self) -> bool:
        replica, age = self._replica, time.monotonic() - self._listed_at
        is_old = age >= self._pace.watch_seconds / 2
        is_deaf = self._unopened >= MAX_UNOPENED and age >= self._pace.retry_refused_seconds
        return not self.synced or not replica.version or replica.is_doubtful or is_old or is_deaf

    async def _list(self, on_change: OnChange) -> None:
        """Read all pages, and take them over at once."""
        self.counts.lists += 1
        self._unopened = 0
        items: list[Object] = []
        version = go_on = ""
        while True:
            page = await self._client.page(
                self.resource,
                self.namespace,
                self.label_selector,
                self.field_selector,
                self._pace.page_size,
                go_on,
            )
            version = version or page.metadata.resource_version
            for index, raw in enumerate(page.items or ()):
                if index % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)
                items.append(self._kept(raw))
            go_on = page.metadata.go_on
            self._bound(len(items))
            if not go_on:
                break
        self._refuse_stale(version)
        self._take_over(items, version, on_change)

    def _bound(self, count: int) -> None:
        if count > MAX_OBJECTS:
            raise ApiError(0, "TooLarge", f"there are more than {MAX_OBJECTS:,} {self}: narrow the selector")

    def _kept(self, raw: msgspec.Raw) -> Object:
        try:
            return self._replica.kept(complete(self.resource, msgspec.json.decode(raw)))
        except _MALFORMED as error:
            raise ApiError(0, "Malformed", f"an item in a list of {self.resource} is no object: {error!r}") from None

    def _refuse_stale(self, version: str) -> None:
        """A list from the past is no reason to go back there, unless the server insists."""
        if not self._replica.is_outdated(version):
            self._stale_since = None
            return
        now = time.monotonic()
        self._stale_since = self._stale_since if self._stale_since is not None else now
        if now - self._stale_since < self._pace.patience_seconds:
            self.counts.stale_lists += 1
            message = f"the server lists {self.resource} as of {version}, older than what it said before"
            raise ApiError(0, "Stale", message)
        self._stale_since = None

    def _take_over(self, items: list[Object], version: str, on_change: OnChange) -> None:
        changed = self._replica.relisted(items, version)
        self._listed_at = self._heard_at = time.monotonic()
        self._missing_since = None
        self.is_installed = True
        self._tell(changed, on_change)

    def _tell(self, changed: Collection[Key], on_change: OnChange) -> None:
        """After a whole list: also if it is the first and empty."""
        is_first = not self.synced
        self._synced.set()
        if changed or is_first:
            on_change(changed)

    async def _watch(self, on_change: OnChange) -> None:
        """One watch, until it ends or a list is due."""
        self.counts.watches += 1
        self._unopened += 1
        seconds = self._pace.watch_seconds * (0.5 + 0.5 * self._chance.random())
        watch = self._client.watch(
            self.resource, self.namespace, self.label_selector, self.field_selector, self._replica.version, seconds
        )
        began = float("inf")
        try:
            async with watch as stream:
                began = time.monotonic()
                self._unopened = 0
                self._is_well()
                self._is_watching = True
                await self._follow(stream, seconds, on_change)
        finally:
            now = time.monotonic()
            if self._is_watching:
                self._heard_at = now - self.age_seconds
                self._is_watching = False
            if now - began >= self._pace.steady_seconds:
                self._failures, self._is_told = 0, False
        if now - began < self._pace.retry_seconds and not self._replica.is_doubtful:
            raise ApiError(0, "Ended", f"the watch of {self.resource} ended as soon as it began")

    async def _follow(self, stream: WatchStream, seconds: float, on_change: OnChange) -> None:
        """Until the stream or its time ends, or until events came out of order and the last list is a while ago."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends) as limit:
                while (events := await stream.events()) is not None:
                    self._take_in(events, on_change)
                    if self._replica.is_doubtful and limit.when() == ends:
                        wait = self._listed_at + self._pace.doubt_seconds - time.monotonic()
                        limit.reschedule(min(ends, loop.time() + max(0.0, wait)))

    def _take_in(self, events: list[WatchEvent], on_change: OnChange) -> None:
        self.counts.events += len(events)
        changed: dict[Key, None] = {}
        try:
            for event in events:
                key = self._replica.event(event.type, event.object)
                if key is not None:
                    changed[key] = None
                self._bound(len(self._replica.objects))
        except _MALFORMED as error:
            raise ApiError(0, "Malformed", f"a watch of {self.resource} sent no object: {error!r}") from None
        finally:
            if changed:
                on_change(changed.keys())

    def _is_well(self) -> None:
        """A watch is open. Connections that come and go are not worth a line each."""
        if self._is_told and time.monotonic() - self._heard_at >= self._pace.steady_seconds:
            log.info("%s: up to date again", self)
            self._is_told = False
        self.error = ""

    def _after(self, error: ApiError, on_change: OnChange) -> float:
        """Learn from the failure; returns the pause before the next attempt, in seconds."""
        if self._is_optional and error.status in (403, 404):
            return self._missing(error, on_change)
        self.counts.errors += 1
        if error.is_unanswered != self._was_unanswered:
            self._was_unanswered, self._failures = error.is_unanswered, 0
        self._failures += 1
        if error.is_expired:
            self.counts.expired += 1
        elif error.reason != "Ended":
            self._say(error)
        if error.is_expired or error.is_unusable or (self._failures > 3 and not error.is_unanswered):
            self._replica.version = ""
        return max(self._pause(), error.retry_after_seconds or 0.0)

    def _pause(self) -> float:
        pace = self._pace
        longest = pace.retry_unanswered_seconds if self._was_unanswered else pace.retry_refused_seconds
        pause = min(longest, pace.retry_seconds * 2.0 ** min(self._failures - 1, 20))
        return pause * (0.5 + 0.5 * self._chance.random())

    def _missing(self, error: ApiError, on_change: OnChange) -> float:
        """The kind is not installed, or not ours to read. What was there stays for a while: a server that starts knows
        few kinds and few rights."""
        now = time.monotonic()
        self._missing_since = self._missing_since if self._missing_since is not None else now
        missing_seconds = now - self._missing_since
        settle = self._pace.retry_seconds * 10
        if self.synced:
            is_over = missing_seconds >= self._pace.gone_seconds and error.is_not_found
        else:
            is_over = error.is_not_found or missing_seconds >= settle
        if is_over or (self.synced and not self._replica.objects):
            if self.is_installed:
                log.info("%s: %s; counts as empty until that changes", self, error.reason)
            self.is_installed = False
            self.error = ""
            self._heard_at = now
            self._tell(self._replica.relisted((), ""), on_change)
        elif self.synced:
            self._say(error)
        longest = self._pace.look_again_seconds if self.synced else settle / 4
        return min(longest, max(settle / 4, missing_seconds)) * (0.5 + 0.5 * self._chance.random())

    def _say(self, error: ApiError) -> None:
        if not self._is_told:
            log.warning("%s: %s; the last state stays in effect", self, error)
            self._is_told = True
        self.error = str(error)
