"""The brain behind one door: `receive(event, now)` takes what happened and returns what is decided.

A request passes: resolve (name to pool and target), choose (who may serve it), shed (may it go now), schedule (where
to), reserve (the ledger). Everything is synchronous, so each call is atomic, and a decision may come with a later event
than the request: whoever asks must not assume that `Decided` is among what `receive(Ask)` returns.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

from msgspec import Struct, structs

from stellwerk.flow.saturation import FULL, Saturation, saturation
from stellwerk.flow.waiting import WaitingRoom
from stellwerk.model.candidates import Candidates
from stellwerk.model.catalog import Catalog
from stellwerk.model.chance import Chance
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import (
    Ask,
    Configured,
    Decided,
    Draining,
    Event,
    Finished,
    ModelsListed,
    Prefilled,
    Released,
    Sampled,
    SampleFailed,
    Tick,
    TurnedAway,
    Used,
    Withdrawn,
)
from stellwerk.model.fleet import Fleet, Health, Member
from stellwerk.model.outcome import Outcome, Picked, Refused
from stellwerk.model.picker_config import PickerConfig
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api
from stellwerk.model.sample import Sample
from stellwerk.model.trace import Trace
from stellwerk.model.view import PoolsView
from stellwerk.schedule.affinity import Lookup, PrefixAffinity
from stellwerk.schedule.blocks import BYTES_PER_TOKEN
from stellwerk.schedule.choice import PoolChoice
from stellwerk.schedule.explain import explain
from stellwerk.schedule.listing import Listing
from stellwerk.schedule.pipeline import Selection
from stellwerk.schedule.plugin import Context
from stellwerk.schedule.registry import build
from stellwerk.schedule.resolve import Resolved, Resolver
from stellwerk.schedule.scores import scores
from stellwerk.telemetry import health
from stellwerk.telemetry.aftermath import learn
from stellwerk.telemetry.decisions import Decisions
from stellwerk.telemetry.health import HealthSettings
from stellwerk.telemetry.inflight import inflight_families
from stellwerk.telemetry.ledger import Entry, Ledger
from stellwerk.telemetry.meters import Meters
from stellwerk.telemetry.render import Family
from stellwerk.telemetry.survey import survey

NOTHING: tuple[Decided, ...] = ()


class EngineSettings(Struct, frozen=True):
    """What the engine can be told from outside. Seconds and bytes."""

    prefix_index_bytes: int = 256 * 1024 * 1024
    decisions_bytes: int = 16 * 1024 * 1024
    fallback_count: int = 2
    """Endpoints named after the pick, for the proxy to fall back to."""
    emits_scores: bool = False
    stale_after_seconds: float = 1.0
    """Older readings are mixed with what we ourselves have in flight."""
    lost_after_seconds: float = 7.0
    """Older readings are not believed at all. Above the longest time between two readings of an idle server."""
    no_endpoint_wait_seconds: float = 0.0
    """How long a request may wait for an endpoint to appear; 0: it is refused at once."""
    health: HealthSettings = HealthSettings()


class Engine:
    """Owner of the fleet, the ledger, the prefix index and the room of those who wait."""

    def __init__(self, settings: EngineSettings, chance: Chance, meters: Meters) -> None:
        self.settings = settings
        self._chance = chance
        self._meters = meters
        self._catalog = Catalog()
        self._picker = PickerConfig()
        self._plan = build(self._picker)
        self._fleet = self._new_fleet((), None)
        self._ledger = Ledger(self._fleet)
        self._decisions = Decisions(settings.decisions_bytes)
        self._room = WaitingRoom()
        self._affinity = self._new_affinity()
        self._choices: dict[str, PoolChoice] = {}
        self._resolver = Resolver(self._catalog, self._fleet)
        self._listing = Listing(self._catalog, self._fleet)
        self._suspects: set[Member] = set()
        self._is_configured = False
        self._is_draining = False
        self._doors: dict[type, Callable[[Any, float], tuple[Decided, ...]]] = {
            Ask: self._ask,
            Released: self._released,
            Prefilled: self._prefilled,
            Finished: self._finished,
            Used: self._used,
            Sampled: self._sampled,
            SampleFailed: self._sample_failed,
            ModelsListed: self._models_listed,
            Withdrawn: self._withdrawn,
            TurnedAway: self._turned_away,
            Configured: self._configured,
            Draining: self._draining,
            Tick: self._tick,
        }

    def receive(self, event: Event, now: float) -> tuple[Decided, ...]:
        """Take in what happened at `now` (monotonic seconds, never falling); returns every decision that is due."""
        return self._doors[type(event)](event, now)

    def next_deadline(self) -> float | None:
        """When `Tick` is wanted, if nothing else happens; None: never."""
        deadline = self._room.next_deadline()
        return None if deadline == inf else deadline

    def describe(self, now: float) -> PoolsView:
        """All pools and endpoints, as they are now."""
        self._settle(now)
        pools = {name: choice.members for name, choice in self._choices.items()}
        levels = {name: self._level(members, now) for name, members in pools.items()}
        index = self._affinity.index if self._affinity is not None else None
        return PoolsView(
            generation=self._catalog.generation,
            pools=survey(pools, levels, index.blocks_of if index is not None else None, now),
            prefix_index_bytes=index.bytes if index is not None else 0,
            prefix_index_blocks=index.block_count if index is not None else 0,
            prefix_index_max_bytes=self.settings.prefix_index_bytes,
            waiting_requests=len(self._room),
            is_draining=self._is_draining,
            unknown_ticket_count=self._ledger.unknown_count,
            unreported_count=self._ledger.unreported_count,
        )

    def unready(self, now: float) -> tuple[str, ...]:
        """Why requests should not be sent here; empty: they may. One usable pool is enough."""
        if self._is_draining:
            return ("shutting down",)
        if not self._is_configured:
            return ("no configuration was read yet",)
        if not self._choices:
            return ("no InferencePool is configured",)
        reasons = []
        for choice in self._choices.values():
            if any(member.health is not Health.UNREACHABLE for member in choice.members):
                return ()
            reasons.append(choice.why_empty(None))
        return tuple(reasons)

    def traces(self) -> Sequence[Trace]:
        """The last decisions, newest last."""
        return self._decisions.all()

    def trace(self, request_id: str) -> Trace | None:
        """The newest decision about a request."""
        return self._decisions.find(request_id)

    def families(self) -> Iterator[Family]:
        """What is in flight, for the metrics page."""
        return inflight_families(self._ledger.in_flight(), self._meters.tenant)

    # -- requests --------------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask, now: float) -> tuple[Decided, ...]:
        request = ask.request
        if self._is_draining:
            outcome: Outcome = Refused(Reason.SHUTTING_DOWN, "the gateway is shutting down: try again")
            return (self._told(ask, outcome, None, now),)
        if request.api is Api.MODELS or request.api is Api.MODEL:
            answer = self._listing.answer(request)
            if answer is not None:
                return (self._told(ask, answer, None, now),)
        resolved = self._resolver.resolve(request, self._chance)
        if isinstance(resolved, Refused):
            return (self._told(ask, resolved, None, now),)
        self._settle(now)
        choice = self._choices[resolved.pool.name]
        candidates = choice.candidates(resolved.target, request.subset)
        if not candidates.members:
            return self._without_endpoint(ask, resolved, choice, now)
        return (self._schedule(ask, resolved, choice, candidates, now),)

    def _schedule(
        self, ask: Ask, resolved: Resolved, choice: PoolChoice, candidates: Candidates, now: float
    ) -> Decided:
        request = ask.request
        level: Saturation | None = None
        if resolved.priority < 0:
            level = saturation(self._plan.detector, candidates, now)
            if level.value >= FULL:
                message = (
                    f'pool "{resolved.pool.name}" is full, and requests of priority {resolved.priority} do not wait'
                )
                return self._told(ask, Refused(Reason.SATURATED, message), resolved, now, level=level)
        lookup: Lookup | None = None
        context = Context(request, self._chance, now, resolved.target, choice.turn)
        if self._affinity is not None and request.prompts:
            lookup = self._affinity.look_up(request, candidates, resolved.target)
            context.matched, context.block_count, context.block_tokens = (
                lookup.matched,
                lookup.block_count,
                lookup.block_tokens,
            )
        choice.turn += 1
        picker = self._plan.profile.picker
        count = max(1 + self.settings.fallback_count, picker.max_num_of_endpoints)
        selection = self._plan.profile.run(context, candidates, count)
        if not selection.order:
            return self._told(ask, _emptied(resolved, selection), resolved, now, level=level, selection=selection)
        return self._dispatch(ask, resolved, selection, lookup, level, now)

    def _dispatch(
        self,
        ask: Ask,
        resolved: Resolved,
        selection: Selection,
        lookup: Lookup | None,
        level: Saturation | None,
        now: float,
    ) -> Decided:
        request = ask.request
        members = selection.candidates.members
        picked = [members[position] for position in selection.order]
        first = picked[0]
        endpoints = tuple([member.endpoint for member in picked])
        destination = ",".join([member.address for member in picked])
        target = resolved.target
        outcome = Picked(
            resolved.pool,
            endpoints,
            destination,
            request.model,
            target if target != request.model else None,
            scores(selection) if self.settings.emits_scores else None,
        )
        trace = explain(request, outcome, now, resolved=resolved, level=level, selection=selection)
        self._decisions.record(trace)
        uncached = request.prompt_tokens
        if lookup is not None and lookup.block_count:
            matched = int(lookup.matched[first.row]) if lookup.matched is not None else 0
            uncached = max(0, uncached - matched * lookup.block_tokens)
            bytes_matched = min(matched * lookup.block_tokens * BYTES_PER_TOKEN, request.size_bytes)
            self._meters.matched(ratio=matched / lookup.block_count, prefix_bytes=bytes_matched)
        entry = Entry(first, uncached, self._plan.load.output_tokens(request), trace, endpoints, request.fairness_id)
        self._ledger.reserve(ask.ticket, entry, now)
        if self._affinity is not None and lookup is not None:
            self._affinity.dispatched(first, lookup)
        if health.dispatched(first, now, self.settings.health):
            self._fleet.choice_version += 1
        self._meters.decided(trace, request_bytes=request.size_bytes, fairness_id=request.fairness_id)
        return Decided(ask.ticket, outcome)

    def _without_endpoint(self, ask: Ask, resolved: Resolved, choice: PoolChoice, now: float) -> tuple[Decided, ...]:
        request = ask.request
        wait = self.settings.no_endpoint_wait_seconds
        if wait > 0 and request.subset is None and self._room.enter(ask, now + wait):
            return NOTHING
        outcome = Refused(Reason.NO_ENDPOINTS, choice.why_empty(request.subset))
        return (self._told(ask, outcome, resolved, now),)

    def _told(
        self,
        ask: Ask,
        outcome: Outcome,
        resolved: Resolved | None,
        now: float,
        *,
        level: Saturation | None = None,
        selection: Selection | None = None,
    ) -> Decided:
        """A decision that sends the request nowhere."""
        request = ask.request
        trace = explain(request, outcome, now, resolved=resolved, level=level, selection=selection)
        self._decisions.record(trace)
        self._meters.decided(trace, request_bytes=request.size_bytes, fairness_id=request.fairness_id)
        return Decided(ask.ticket, outcome)

    def _withdrawn(self, event: Withdrawn, now: float) -> tuple[Decided, ...]:
        self._room.leave(event.ticket)
        return NOTHING

    def _turned_away(self, event: TurnedAway, now: float) -> tuple[Decided, ...]:
        self._meters.turned_away(event.reason, is_counted=event.was_decided)
        return NOTHING

    def _released(self, event: Released, now: float) -> tuple[Decided, ...]:
        entry = self._ledger.released(event.ticket, now)
        if entry is not None:
            self._meters.released(entry.trace, fairness_id=entry.fairness_id)
        return NOTHING

    def _prefilled(self, event: Prefilled, now: float) -> tuple[Decided, ...]:
        self._ledger.prefilled(event.ticket)
        return NOTHING

    def _used(self, event: Used, now: float) -> tuple[Decided, ...]:
        entry = self._ledger.get(event.ticket)
        if entry is not None:
            entry.usage = event.usage
        return NOTHING

    def _finished(self, event: Finished, now: float) -> tuple[Decided, ...]:
        entry = self._ledger.finished(event.ticket)
        if entry is None:
            return NOTHING
        report = event.report
        if report.usage is None and entry.usage is not None:
            report = structs.replace(report, usage=entry.usage)
        self._meters.finished(entry.trace, report, fairness_id=entry.fairness_id)
        if report.served is not None and all(endpoint.address != report.served for endpoint in entry.endpoints):
            self._meters.mismatched(entry.trace.pool or "")
        changed = learn(entry, report, self._fleet, now, self.settings.health)
        self._suspects.update(member for member in changed if member.health is Health.SUSPECT)
        return self._changed(bool(changed), now)

    # -- servers ---------------------------------------------------------------------------------------------------

    def _sampled(self, event: Sampled, now: float) -> tuple[Decided, ...]:
        member = self._fleet.by_key.get(event.endpoint)
        if member is None:
            return NOTHING
        sample, before = event.sample, member.sample
        changed = health.heard(member, sample, now, self.settings.health)
        has_restarted = health.has_restarted(before, sample)
        self._fleet.sampled(member, sample, now)
        if self._affinity is not None:
            if has_restarted:
                self._affinity.forget(member)
            if before is None or _cache_size(before) != _cache_size(sample):
                self._affinity.learned(member)
        return self._changed(changed, now)

    def _sample_failed(self, event: SampleFailed, now: float) -> tuple[Decided, ...]:
        member = self._fleet.by_key.get(event.endpoint)
        if member is None:
            return NOTHING
        return self._changed(health.failed(member, event.error, event.is_unreachable, now, self.settings.health), now)

    def _models_listed(self, event: ModelsListed, now: float) -> tuple[Decided, ...]:
        member = self._fleet.by_key.get(event.endpoint)
        if member is not None:
            self._fleet.listed(member, event.models)
        return NOTHING

    def _changed(self, changed: bool, now: float) -> tuple[Decided, ...]:
        """Somebody's health changed: who may be chosen is found anew, and those who wait ask again."""
        if not changed:
            return NOTHING
        self._fleet.choice_version += 1
        return self._ask_again(now) if len(self._room) else NOTHING

    def _settle(self, now: float) -> None:
        self._fleet.settle(now)
        if self._suspects:
            for member in tuple(self._suspects):
                if health.elapsed(member, now):
                    self._fleet.choice_version += 1
                if member.health is not Health.SUSPECT:
                    self._suspects.discard(member)

    def _level(self, members: tuple[Member, ...], now: float) -> Saturation:
        return saturation(self._plan.detector, Candidates(self._fleet, members), now)

    # -- objects, time ---------------------------------------------------------------------------------------------

    def _configured(self, event: Configured, now: float) -> tuple[Decided, ...]:
        plan = build(event.picker) if event.picker != self._picker else self._plan
        catalog = event.catalog
        pools = catalog.pools.values()
        fleet = self._new_fleet(tuple(endpoint for pool in pools for endpoint in pool.endpoints), self._fleet)
        self._catalog, self._fleet, self._picker = catalog, fleet, event.picker
        self._ledger.fleet = fleet
        if plan.prefix != self._plan.prefix:
            for member in fleet.members:
                member.slot = -1
            self._plan = plan
            self._affinity = self._new_affinity()
        self._plan = plan
        if self._affinity is not None:
            self._affinity.adopt(fleet)
        turns = {name: choice.turn for name, choice in self._choices.items()}
        self._choices = {pool.name: PoolChoice(pool, fleet) for pool in pools}
        for name, choice in self._choices.items():
            choice.turn = turns.get(name, 0)
        self._resolver = Resolver(catalog, fleet)
        self._listing = Listing(catalog, fleet)
        self._is_configured = True
        self._meters.configured(catalog.names())
        return self._ask_again(now)

    def _draining(self, event: Draining, now: float) -> tuple[Decided, ...]:
        self._is_draining = True
        return self._ask_again(now)

    def _tick(self, event: Tick, now: float) -> tuple[Decided, ...]:
        self._ledger.expire(now)
        decided = []
        for waiting in self._room.all():
            if waiting.deadline <= now:
                self._room.leave(waiting.ask.ticket)
                outcome = Refused(Reason.NO_ENDPOINTS, "no endpoint became ready in time")
                decided.append(self._told(waiting.ask, outcome, None, now))
        return tuple(decided)

    def _ask_again(self, now: float) -> tuple[Decided, ...]:
        """Everybody who waits asks again, in order; who still has to wait keeps place and deadline."""
        decided: list[Decided] = []
        for waiting in self._room.all():
            resolved = None
            if not self._is_draining:
                resolved = self._resolver.resolve(waiting.ask.request, self._chance)
            if isinstance(resolved, Resolved):
                choice = self._choices[resolved.pool.name]
                if not choice.candidates(resolved.target, None).members:
                    continue
            self._room.leave(waiting.ask.ticket)
            decided += self._ask(waiting.ask, now)
        return tuple(decided)

    def _new_fleet(self, endpoints: tuple[Endpoint, ...], before: Fleet | None) -> Fleet:
        return Fleet(
            endpoints,
            before,
            stale_after_seconds=self.settings.stale_after_seconds,
            lost_after_seconds=self.settings.lost_after_seconds,
        )

    def _new_affinity(self) -> PrefixAffinity | None:
        prefix = self._plan.prefix
        return None if prefix is None else PrefixAffinity(prefix, self.settings.prefix_index_bytes)


def _cache_size(sample: Sample) -> tuple[int | None, int | None]:
    return sample.block_size_tokens, sample.block_count


def _emptied(resolved: Resolved, selection: Selection) -> Refused:
    """A filter removed everybody: 429 if they were too busy, 503 if they are of the wrong kind."""
    last = selection.dropped[-1].filter if selection.dropped else "a filter"
    if selection.emptied_by_load:
        return Refused(Reason.SATURATED, f'every endpoint of pool "{resolved.pool.name}" is too busy ({last})')
    return Refused(Reason.NO_ENDPOINTS, f'no endpoint of pool "{resolved.pool.name}" passes {last}')
