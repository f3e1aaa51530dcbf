"""Who left a cluster a moment ago, and may still be needed: whoever took the place has not answered Envoy's check yet.

Envoy asks a newcomer only once it has answered. Were the last one that has answered taken away before that, nobody
could be asked in between, be it for some milliseconds. So those who go are told as leaving for a while: they get a call
only where nobody else can take it.
"""

from collections.abc import Mapping
from math import inf

from stellwerk.model.members import Address, Members

FAREWELL_SECONDS = 5.0
"""Longer than a newcomer on a busy node needs to answer, TLS handshake included."""


class Farewells:
    """Of some clusters. Times are monotonic seconds."""

    def __init__(self, seconds: float = FAREWELL_SECONDS) -> None:
        self._seconds = seconds
        self._present: dict[str, Members] = {}
        self._gone: dict[str, dict[Address, float]] = {}
        """Until when each that left is kept, by cluster."""

    @property
    def next_deadline(self) -> float:
        """When `told` has something else to say, if nothing else happens; infinite: never."""
        return min((until for gone in self._gone.values() for until in gone.values()), default=inf)

    def told(self, wanted: Mapping[str, Members], now: float) -> dict[str, Members]:
        """What to tell Envoy where these are to be the members. A cluster that is not among them is forgotten."""
        gone_before, present_before = self._gone, self._present
        self._gone, self._present = {}, dict(wanted)
        told = {}
        for name, members in wanted.items():
            before = present_before.get(name, members)
            left = gone_before.get(name, {}) | dict.fromkeys((*before.ready, *before.leaving), now + self._seconds)
            listed = {*members.ready, *members.leaving}
            kept = {each: until for each, until in left.items() if each not in listed and until > now}
            if kept:
                self._gone[name] = kept
            told[name] = Members(members.ready, (*members.leaving, *kept))
        return told
