"""The fleet: what is known about every endpoint of the catalog, as numpy columns with one row per endpoint.

One writer, the engine: samples, in-flight counts and health go in through its parts; filters and scorers read columns
through `Candidates`. The truth about one endpoint is its `Member`, which lives as long as the endpoint object does;
the columns are its projection. So a count that is released late finds its own member, whoever now owns the row.

A value is *fresh* for `stale_after_seconds` after the page was read: then columns hold exactly what the page said.
Later it is *stale*: it still counts, but waiting and running are at least what we ourselves have in flight beyond it.
So is a page that was read just now, if the server's progress counter stands still: its other numbers may as well.
After `lost_after_seconds`, or when no page was ever read, only what we have in flight counts.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from stellwerk.model.endpoint import Endpoint
from stellwerk.model.sample import Sample

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

SETTLE_INTERVAL_SECONDS = 0.05
"""How late a value may be noticed to have become stale."""
FRESH, STALE, LOST = 0, 1, 2
"""How old what we know of a server's load is; see the module's docstring."""
STUCK_SECONDS = 0.25
"""Standing still for longer makes a page stale."""
MOST = 1e9
"""Counts above it are not plausible."""
MAX_HEARD = 4096
"""Adapter names remembered per server between two readings of its model list."""
ASSUMED_CAPACITY = 100.0
"""Requests that a server is taken to run at once until it is seen to queue; upstream's `maxConcurrency` default."""


class Health(Enum):
    """What is believed about an endpoint. The value stands in metrics and in the admin API."""

    UNKNOWN = "unknown"
    """Nothing heard yet: may be picked."""
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """A connection failed or broke: avoided for a moment, or until a page is read."""
    SILENT = "silent"
    """Its metrics page stopped answering and nothing else came back either: avoided."""
    WEDGED = "wedged"
    """It has work and makes no progress, though its pages answer: avoided."""
    UNREACHABLE = "unreachable"
    """Nobody listens: never picked."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is picked as long as there is a choice."""
        return self is Health.HEALTHY or self is Health.UNKNOWN


class Member:
    """One endpoint's life in the fleet, from the catalog that brings it to the one that drops it.

    Mutable; written by the engine's parts only: counts by the ledger, health by `telemetry.health`, the rest by Fleet.
    """

    __slots__ = (
        "address",
        "age",
        "backoff_seconds",
        "busy_from",
        "capacity",
        "effective",
        "endpoint",
        "failing_since",
        "has_moved",
        "health",
        "health_reason",
        "health_until",
        "heard_adapters",
        "in_flight_at_sample",
        "kv_use",
        "life_at",
        "longest_prompt_tokens",
        "models",
        "prefill_tokens",
        "requests",
        "row",
        "running",
        "sample",
        "sampled_at",
        "slot",
        "stuck_seconds",
        "tokens",
        "waiting",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.address = endpoint.address
        """`Endpoint.address`, made once."""
        self.age = LOST
        """FRESH, STALE or LOST: how its values were last written into the columns."""
        self.row = -1
        """Row in the current fleet's columns; -1 once the endpoint has left."""
        self.slot = -1
        """Bit in the prefix index; -1: none."""
        self.requests = 0
        """In flight through this gateway."""
        self.tokens = 0
        """Tokens in flight: uncached prompt tokens that wait for their first answer byte, plus estimated output."""
        self.prefill_tokens = 0
        """The prompt part of `tokens`."""
        self.sample: Sample | None = None
        self.sampled_at = -inf
        self.waiting = nan
        self.running = nan
        self.kv_use = nan
        self.in_flight_at_sample = 0
        self.capacity = ASSUMED_CAPACITY
        """Requests that it is known to run at once: the most seen running, or the last seen running while it queued."""
        self.effective: tuple[float, float, float] | None = None
        """Waiting, running and KV use as last written into the columns."""
        self.models: Mapping[str, str | None] | None = None
        self.heard_adapters: frozenset[str] = frozenset()
        """Adapters named by its metrics pages since the models were listed."""
        self.health = Health.UNKNOWN
        self.health_reason = "nothing heard yet"
        self.health_until = inf
        """When a passing state ends by itself."""
        self.backoff_seconds = 0.0
        self.failing_since: float | None = None
        """Since when its metrics page has failed, without a success in between."""
        self.life_at = -inf
        """When an answer last came back from it."""
        self.busy_from = -inf
        """When its in-flight count last rose from zero."""
        self.longest_prompt_tokens = 0
        """Longest uncached prompt sent since nothing was in flight."""
        self.stuck_seconds = 0.0
        """How long it has had work, in sum, since it last made progress."""
        self.has_moved = False
        """Whether its progress counter was seen to move."""


_COLUMNS = (
    *("waiting", "running", "kv_use", "updated_at", "requests", "tokens", "seen_requests", "capacity"),
    "_ages",
)


class Fleet:
    """All members of one catalog generation. Made anew when membership changes; members carry over by identity.

    Columns are float64 of shape (members,): `waiting` and `running` (requests, >= 0), `kv_use` (0..1, NaN: unknown),
    `updated_at` (seconds, -inf: never), `requests` and `tokens` (in flight), `seen_requests` (in flight when the page
    was read), `capacity` (see `Member.capacity`).
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        before: "Fleet | None" = None,
        *,
        stale_after_seconds: float = 1.0,
        lost_after_seconds: float = 7.0,
    ) -> None:
        self.stale_after_seconds = stale_after_seconds
        self.lost_after_seconds = lost_after_seconds
        old: dict[str, Member] = dict(before.by_key) if before is not None else {}
        unique = {endpoint.key: endpoint for endpoint in endpoints}
        self.members = tuple(_carried(old, endpoint) for endpoint in unique.values())
        self.left = tuple(old.values())
        """Members of the fleet before that are in this one no more."""
        self.by_key: dict[str, Member] = {member.endpoint.key: member for member in self.members}
        self.by_address: dict[str, list[Member]] = {}
        count = len(self.members)
        self.waiting: Floats = np.zeros(count)
        self.running: Floats = np.zeros(count)
        self.kv_use: Floats = np.full(count, nan)
        self.updated_at: Floats = np.full(count, -inf)
        self.requests: Floats = np.zeros(count)
        self.tokens: Floats = np.zeros(count)
        self.seen_requests: Floats = np.zeros(count)
        self.capacity: Floats = np.zeros(count)
        self.signals_version = 0
        """Grows when any value in `waiting`, `running` or `kv_use` changes."""
        self.adapters_version = 0
        self.choice_version = 0
        """Grows when health, model lists or prefix slots change: who may be chosen has to be found anew."""
        self._settle_at = -inf
        self._ages = np.full(count, LOST)
        self._holders: dict[str, frozenset[Member]] = {}
        self._holders_version = -1
        for member in self.left:
            member.row = -1
        rows = np.array([member.row for member in self.members], dtype=np.intp)
        """In the fleet before; -1: new."""
        for row, member in enumerate(self.members):
            member.row = row
            self.by_address.setdefault(member.address, []).append(member)
        if before is not None:
            kept = np.flatnonzero(rows >= 0)
            for name in _COLUMNS:
                getattr(self, name)[kept] = getattr(before, name)[rows[kept]]
        for row in np.flatnonzero(rows < 0).tolist():
            member = self.members[row]
            self.capacity[row] = member.capacity
            self._settle_row(member)

    def sampled(self, member: Member, sample: Sample, now: float) -> None:
        """Take in one reading of a member's metrics page. Values that are not plausible count as not told."""
        self._adapters_told(member, sample)
        member.sample = sample
        member.sampled_at = now
        member.in_flight_at_sample = member.requests
        member.waiting = _plausible(sample.waiting)
        member.running = _plausible(sample.running)
        member.kv_use = _plausible(sample.kv_use, 1.0)
        if (member.waiting > 0 and member.running >= 0) or member.running > member.capacity:
            member.capacity = max(1.0, member.running)
        member.age = FRESH
        row = member.row
        self._ages[row] = FRESH
        self.updated_at[row] = now
        self.seen_requests[row] = member.requests
        self.capacity[row] = member.capacity
        self._settle_row(member)
        self._settle_at = min(self._settle_at, now + self.stale_after_seconds)

    def listed(self, member: Member, models: Mapping[str, str | None]) -> None:
        """Take in what a member's `/v1/models` names."""
        if member.models is None or dict(models) != dict(member.models) or not member.heard_adapters <= models.keys():
            self.choice_version += 1
        member.models = models
        member.heard_adapters = frozenset()

    def _adapters_told(self, member: Member, sample: Sample) -> None:
        before = member.sample
        if before is not None and (
            before.running_adapters == sample.running_adapters
            and before.waiting_adapters == sample.waiting_adapters
            and before.max_adapters == sample.max_adapters
        ):
            return
        self.adapters_version += 1
        told = sample.running_adapters | sample.waiting_adapters
        if not told <= member.heard_adapters:
            member.heard_adapters = told | member.heard_adapters if len(member.heard_adapters) < MAX_HEARD else told
            self.choice_version += 1

    def load_changed(self, member: Member) -> None:
        """The ledger changed a member's counts; nothing happens if it has left the fleet."""
        row = member.row
        if row < 0:
            return
        self.requests[row] = member.requests
        self.tokens[row] = member.tokens
        if member.age or member.stuck_seconds > STUCK_SECONDS:
            self._settle_row(member)

    def settle(self, now: float) -> None:
        """Let values grow old. To be called before columns are read; costs one comparison if nothing is due."""
        if now < self._settle_at:
            return
        stale_after, lost_after = self.stale_after_seconds, self.lost_after_seconds
        passed = now - self.updated_at
        ages = (passed >= stale_after).astype(self._ages.dtype) + (passed >= lost_after)
        for row in np.flatnonzero(ages != self._ages).tolist():
            member = self.members[row]
            member.age = int(ages[row])
            self._settle_row(member)
        self._ages = ages
        left = np.where(ages == FRESH, stale_after, lost_after) - passed
        wait = float(left.min(initial=inf, where=ages != LOST))
        self._settle_at = now + max(wait, SETTLE_INTERVAL_SECONDS)

    def holders(self, model: str) -> frozenset[Member]:
        """The members known to serve a model, by their lists or by the adapters on their metrics pages."""
        return self._index().get(model, frozenset())

    def models(self) -> Iterable[str]:
        """Every name that `holders` knows."""
        return self._index()

    def _index(self) -> dict[str, frozenset[Member]]:
        if self._holders_version != self.choice_version:
            found: dict[str, list[Member]] = {}
            for member in self.members:
                for name in (*(member.models or ()), *member.heard_adapters):
                    found.setdefault(name, []).append(member)
            self._holders = {name: frozenset(members) for name, members in found.items()}
            self._holders_version = self.choice_version
        return self._holders

    def _settle_row(self, member: Member) -> None:
        """Write a member's effective values into its row."""
        waiting, running, kv_use = member.waiting, member.running, member.kv_use
        in_flight = float(member.requests)
        if member.age == LOST:
            waiting = running = in_flight
            kv_use = nan
        else:
            unheard = member.age == STALE or member.stuck_seconds > STUCK_SECONDS
            told_waiting = waiting if waiting == waiting else 0.0
            told_running = running if running == running else 0.0
            if unheard or waiting != waiting:
                waiting = max(told_waiting, in_flight - told_running)
            if unheard or running != running:
                running = max(told_running, in_flight - told_waiting)
        row = member.row
        effective = (waiting, running, kv_use)
        if effective != member.effective:
            member.effective = effective
            self.waiting[row], self.running[row], self.kv_use[row] = effective
            self.signals_version += 1


def _carried(old: dict[str, Member], endpoint: Endpoint) -> Member:
    """The member that this endpoint already was, taken out of `old`, or a new one."""
    member = old.get(endpoint.key)
    if member is None or not _is_same(member.endpoint, endpoint):
        return Member(endpoint)
    del old[endpoint.key]
    member.endpoint = endpoint
    return member


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints of one key are one server process's port, as far as objects can tell."""
    return one.uid == other.uid and one.host == other.host and one.port == other.port


def _plausible(value: float | None, most: float = MOST) -> float:
    """The value, or NaN when the page did not tell or told nonsense."""
    return value if value is not None and 0 <= value <= most else nan
