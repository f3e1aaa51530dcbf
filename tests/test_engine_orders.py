"""Random histories through the engine's one door: whatever comes in whatever order, every request is decided exactly
once, nothing stays reserved, and only endpoints of the pool, reachable and in the subset, are picked."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.engine import Engine, EngineSettings
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
    Used,
    Withdrawn,
)
from stellwerk.model.outcome import Picked
from stellwerk.model.report import Report, Usage
from stellwerk.model.request import Api
from stellwerk.telemetry.meters import Meters
from tests.kit.fleet import catalog, endpoint, pool, public, request, sample

HOSTS = {name: f"10.0.0.{number}" for number, name in enumerate("abcd")}
KEYS = [f"default/{name}:8000" for name in "abcd"]


class History:
    """An engine, and what must hold of it."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.now = 10.0
        self.issued = 0
        self.undecided: set[int] = set()
        self.picked: set[int] = set()
        self.subsets: dict[int, tuple[str, ...] | None] = {}
        self.down: set[str] = set()
        self.pools: dict[str, set[str]] = {}
        wait = data.draw(st.sampled_from([0.0, 3.0]))
        settings = EngineSettings(no_endpoint_wait_seconds=wait, prefix_index_bytes=20_000)
        self.engine = Engine(settings, random.Random(1), Meters())
        self.configure()

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self.data.draw(strategy)

    def tell(self, event: Event) -> None:
        for decided in self.engine.receive(event, self.now):
            self.check(decided)

    def check(self, decided: Decided) -> None:
        assert decided.ticket in self.undecided, "decided twice, or never asked"
        self.undecided.discard(decided.ticket)
        outcome = decided.outcome
        if isinstance(outcome, Picked):
            self.picked.add(decided.ticket)
            keys = [each.key for each in outcome.endpoints]
            assert keys
            assert len(set(keys)) == len(keys)
            assert set(keys) <= self.pools[outcome.pool.name] - self.down
            subset = self.subsets[decided.ticket]
            assert subset is None or {each.host for each in outcome.endpoints} <= set(subset)
            assert outcome.destination == ",".join(each.address for each in outcome.endpoints)

    def configure(self) -> None:
        names = self.draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
        uids = st.sampled_from(["", "2"])
        servers = [endpoint(name, host=HOSTS[name], uid=self.draw(uids)) for name in names]
        cut = self.draw(st.integers(0, len(servers)))
        pools = [pool(*servers[:cut], name="x/one"), pool(*servers[cut // 2 :], name="x/two")]
        what = catalog(
            *pools,
            models=(public("batch", pool="x/one", priority=-1), public("chat", ("m", 1), ("n", 2), pool="x/two")),
            passes_unknown_models=self.draw(st.booleans()),
            default_pool="x/two",
        )
        self.pools = {each.name: {one.key for one in each.endpoints} for each in pools}
        self.down = set()
        self.tell(Configured(what))
        views = [view for each in self.engine.describe(self.now).pools for view in each.endpoints]
        self.down = {view.key for view in views if view.health == "unreachable"}

    def ask(self) -> None:
        self.issued += 1
        hosts = st.lists(st.sampled_from(sorted(HOSTS.values())), max_size=3)
        subset = self.draw(st.none() | hosts.map(tuple))
        asked = request(
            self.draw(st.sampled_from(["batch", "chat", "m", "unheard", None])),
            id=str(self.issued),
            api=self.draw(st.sampled_from([Api.CHAT, Api.CHAT, Api.MODELS, Api.OTHER])),
            prompt=self.draw(st.sampled_from([b"", b"x" * 600, b"y" * 3000])),
            subset=subset,
        )
        self.undecided.add(self.issued)
        self.subsets[self.issued] = subset
        self.tell(Ask(self.issued, asked))

    def end_one(self) -> None:
        ticket = self.draw(st.integers(0, self.issued + 1))
        flags = self.draw(st.sampled_from(["", "-", "UF", "UF,URX", "UC", "DC"]))
        served = self.draw(st.sampled_from([None, *(f"{host}:8000" for host in HOSTS.values())]))
        report = Report(status=self.draw(st.sampled_from([0, 200, 503])), served=served, flags=flags)
        event: Event = self.draw(
            st.sampled_from(
                [Released(ticket), Prefilled(ticket), Used(ticket, Usage(1, 1, 1)), Finished(ticket, report)]
            )
        )
        if isinstance(event, Released):
            self.picked.discard(ticket)
        self.tell(event)

    def server(self) -> None:
        key = self.draw(st.sampled_from(KEYS))
        match self.draw(st.sampled_from(["page", "page", "fail", "down", "models"])):
            case "page":
                numbers = st.sampled_from([0.0, 1.0, 7.0, float("nan"), 1e30])
                self.down.discard(key)
                page = sample(
                    self.draw(numbers), self.draw(numbers), self.draw(st.floats(0, 1)), progress=self.draw(numbers)
                )
                self.tell(Sampled(key, page))
            case "fail":
                self.tell(SampleFailed(key, "timed out", False))
            case "down":
                if any(key in keys for keys in self.pools.values()):
                    self.down.add(key)
                self.tell(SampleFailed(key, "refused", True))
            case "models":
                self.tell(ModelsListed(key, dict.fromkeys(self.draw(st.lists(st.sampled_from("mn"))))))

    def withdraw(self) -> None:
        if self.undecided:
            ticket = self.draw(st.sampled_from(sorted(self.undecided)))
            self.undecided.discard(ticket)
            self.tell(Withdrawn(ticket))

    def pass_time(self) -> None:
        self.now += self.draw(st.sampled_from([0.01, 0.3, 2.0, 9.0]))
        deadline = self.engine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.tell(Tick())

    def rest(self) -> None:
        """Everything ends: nothing may be left."""
        self.tell(Draining())
        assert not self.undecided
        for ticket in tuple(self.picked):
            self.tell(Released(ticket))
        view = self.engine.describe(self.now)
        assert view.waiting_requests == 0
        assert all((each.requests, each.tokens) == (0, 0) for one in view.pools for each in one.endpoints)
        assert view.prefix_index_bytes <= 20_000 + 2000 * len(KEYS)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_request_is_decided_once_and_nothing_stays_reserved(data: st.DataObject) -> None:
    history = History(data)
    steps = [history.ask, history.ask, history.end_one, history.server, history.pass_time, history.withdraw]
    for _ in range(data.draw(st.integers(1, 40))):
        data.draw(st.sampled_from([*steps, *steps, history.configure]))()
    history.rest()
