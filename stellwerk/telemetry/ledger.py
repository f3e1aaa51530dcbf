"""What is in flight: what each exchange reserved, released exactly once, whatever else happens to it or its endpoint.

Counts live in the `Member` of the endpoint that was picked, so that they follow the endpoint object: a release after
the endpoint left the catalog, or after its address went to another, touches nobody else. An entry outlives its release
until the report on it comes (`finished`), or until it is too old for one.
"""

from collections import deque
from collections.abc import Iterator

from stellwerk.model.endpoint import Endpoint
from stellwerk.model.fleet import Fleet, Member
from stellwerk.model.report import Usage
from stellwerk.model.trace import Trace

REPORT_WAIT_SECONDS = 300.0
"""How long after its release a report on an exchange is still expected."""
MAX_AWAITED = 100_000
"""Released exchanges whose report is awaited, at most."""


class Entry:
    """One exchange that was sent to an endpoint. Owned by the ledger."""

    __slots__ = (
        "endpoints",
        "fairness_id",
        "is_finished",
        "is_released",
        "member",
        "output_tokens",
        "prefill_tokens",
        "trace",
        "usage",
    )

    def __init__(
        self,
        member: Member,
        prefill_tokens: int,
        output_tokens: int,
        trace: Trace,
        endpoints: tuple[Endpoint, ...],
        fairness_id: str | None,
    ) -> None:
        self.member = member
        self.prefill_tokens = prefill_tokens
        self.output_tokens = output_tokens
        self.trace = trace
        self.endpoints = endpoints
        self.fairness_id = fairness_id
        self.usage: Usage | None = None
        self.is_released = False
        self.is_finished = False


class Ledger:
    """All exchanges in flight, by ticket. `fleet` is where counts become columns; the engine sets it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.unknown_count = 0
        """Events for tickets that are not, or no longer, known: ignored."""
        self.unreported_count = 0
        """Exchanges on which no report came in time."""
        self._entries: dict[int, Entry] = {}
        self._awaited: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ticket: int) -> Entry | None:
        """The entry; None, and counted, if there is none."""
        entry = self._entries.get(ticket)
        if entry is None:
            self.unknown_count += 1
        return entry

    def in_flight(self) -> Iterator[Entry]:
        """Those that still hold what they reserved."""
        return (entry for entry in self._entries.values() if not entry.is_released)

    def reserve(self, ticket: int, entry: Entry, now: float) -> None:
        """The exchange is sent off. Raises ValueError, and changes nothing, if the ticket was used before."""
        if ticket in self._entries:
            raise ValueError(f"ticket {ticket} is in flight already")
        self._entries[ticket] = entry
        member = entry.member
        if not member.requests:
            member.busy_from = now
            member.longest_prompt_tokens = 0
        member.requests += 1
        member.prefill_tokens += entry.prefill_tokens
        member.tokens += entry.prefill_tokens + entry.output_tokens
        if entry.prefill_tokens > member.longest_prompt_tokens:
            member.longest_prompt_tokens = entry.prefill_tokens
        self.fleet.load_changed(member)

    def prefilled(self, ticket: int) -> Entry | None:
        """The first byte of the answer came: its prompt tokens are free. Later calls change nothing."""
        entry = self.get(ticket)
        if entry is not None and entry.prefill_tokens:
            self._free(entry, entry.prefill_tokens, 0)
            self.fleet.load_changed(entry.member)
        return entry

    def released(self, ticket: int, now: float) -> Entry | None:
        """The exchange is over: all it reserved is free. None, and counted, for a ticket unknown or released before."""
        entry = self.get(ticket)
        if entry is None:
            return None
        if entry.is_released:
            self.unknown_count += 1
            return None
        entry.is_released = True
        entry.member.requests -= 1
        self._free(entry, entry.prefill_tokens, entry.output_tokens)
        self.fleet.load_changed(entry.member)
        if entry.is_finished:
            del self._entries[ticket]
        else:
            self._awaited.append((now + REPORT_WAIT_SECONDS, ticket))
        self.expire(now)
        return entry

    def finished(self, ticket: int) -> Entry | None:
        """The report came. None, and counted, for a ticket unknown or reported on before."""
        entry = self.get(ticket)
        if entry is None:
            return None
        if entry.is_finished:
            self.unknown_count += 1
            return None
        entry.is_finished = True
        if entry.is_released:
            del self._entries[ticket]
        return entry

    def expire(self, now: float) -> None:
        """Forget released exchanges whose report is overdue, or too many."""
        awaited = self._awaited
        while awaited and (awaited[0][0] <= now or len(awaited) > MAX_AWAITED):
            _, ticket = awaited.popleft()
            if self._entries.pop(ticket, None) is not None:
                self.unreported_count += 1

    def _free(self, entry: Entry, prefill_tokens: int, output_tokens: int) -> None:
        member = entry.member
        member.prefill_tokens -= prefill_tokens
        member.tokens -= prefill_tokens + output_tokens
        entry.prefill_tokens -= prefill_tokens
        entry.output_tokens -= output_tokens
