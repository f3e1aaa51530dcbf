"""Who may serve a request at all: one rule for every request, with or without a body, with or without a model.

Of a pool's endpoints: those in the proxy's subset hint, of these those that may answer, of these those that serve the
target model. The result is kept until somebody's health or model list changes.
"""

from collections.abc import Sequence

from stellwerk.model.candidates import Candidates, reachable, serving
from stellwerk.model.catalog import Pool
from stellwerk.model.fleet import Fleet, Health, Member

MAX_KEPT_ROWS = 100_000
"""Endpoints in all candidates that are kept, about."""


class PoolChoice:
    """One pool's members. Made anew with every fleet; owned by the engine."""

    def __init__(self, pool: Pool, fleet: Fleet) -> None:
        self.pool = pool
        self.fleet = fleet
        by_key = fleet.by_key
        self.members: tuple[Member, ...] = tuple(
            {endpoint.key: by_key[endpoint.key] for endpoint in pool.endpoints}.values()
        )
        self.turn = 0
        """Decisions made in this pool."""
        self._names: dict[str, list[Member]] | None = None
        self._kept: dict[tuple[str | None, tuple[str, ...] | None], Candidates] = {}
        self._version = -1

    def candidates(self, target_model: str | None, subset: tuple[str, ...] | None) -> Candidates:
        """Those that may be chosen; empty if there is none. Names that no server lists share their candidates, so that
        made-up names cost nothing."""
        if self._version != self.fleet.choice_version or len(self._kept) * len(self.members) > MAX_KEPT_ROWS:
            self._kept.clear()
            self._version = self.fleet.choice_version
        holders = self.fleet.holders(target_model) if target_model is not None else frozenset()
        if not holders:
            target_model = None
        key = (target_model, subset)
        found = self._kept.get(key)
        if found is None:
            members = self.members if subset is None else self._in_subset(subset)
            found = Candidates(self.fleet, serving(reachable(members), holders), target_model)
            self._kept[key] = found
        return found

    def why_empty(self, subset: tuple[str, ...] | None) -> str:
        """Why `candidates` has none, for the client."""
        name = self.pool.name
        if not self.members:
            return f'pool "{name}" has no ready endpoint: start a model server that it selects'
        members = self.members if subset is None else self._in_subset(subset)
        if not members:
            return f'the subset hint of the proxy names no endpoint of pool "{name}"'
        down = sum(member.health is Health.UNREACHABLE for member in members)
        return f'none of the {down} endpoint(s) of pool "{name}" can be reached: try again when a model server is up'

    def _in_subset(self, subset: tuple[str, ...]) -> Sequence[Member]:
        """In the order of the pool. `ip:port` is exact; `ip` alone stands for all its ports."""
        by_name = self._by_name()
        named = {id(member) for name in subset for member in by_name.get(name.strip(), ())}
        return [member for member in self.members if id(member) in named]

    def _by_name(self) -> dict[str, list[Member]]:
        """Made with the first hint: most proxies send none, and members change all the time."""
        if self._names is None:
            self._names = {}
            for member in self.members:
                host = member.endpoint.host
                for name in {member.address, host, f"[{host}]"}:
                    self._names.setdefault(name, []).append(member)
        return self._names
