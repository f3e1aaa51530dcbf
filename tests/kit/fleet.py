"""Builders of endpoints, catalogs, samples, requests and engines, with defaults for what a test does not care about."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.candidates import Candidates
from stellwerk.model.catalog import Catalog, Pool, PublicModel, Split, Target
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import Ask, Configured, ModelsListed, Sampled
from stellwerk.model.fleet import Fleet
from stellwerk.model.outcome import Outcome, Picked, Refused
from stellwerk.model.picker_config import PickerConfig, PluginRef, PluginSpec, ProfileSpec
from stellwerk.model.request import Api, Request
from stellwerk.model.sample import Sample
from stellwerk.schedule.plugin import Context
from stellwerk.telemetry.meters import Meters

POOL = "default/pool"


def endpoint(name: str, *, host: str = "", port: int = 8000, **more: Any) -> Endpoint:
    """`a` is key `default/a:8000` at 10.0.0.97:8000 unless told otherwise."""
    host = host or f"10.0.{len(name) - 1}.{ord(name[-1])}"
    return Endpoint(key=f"default/{name}:{port}", server=name, namespace="default", host=host, port=port, **more)


def sample(waiting: float | None = 0, running: float | None = 0, kv_use: float | None = 0.0, **more: Any) -> Sample:
    return Sample(waiting=waiting, running=running, kv_use=kv_use, **more)


def request(model: str | None = "m", *, id: str = "r", prompt: bytes = b"", **more: Any) -> Request:
    settings: dict[str, Any] = {
        "api": Api.CHAT,
        "method": "POST",
        "path": "/v1/chat/completions",
        "received_at": 0.0,
        "prompts": (prompt,) if prompt else (),
        "prompt_tokens": len(prompt) // 4,
        "size_bytes": len(prompt),
    }
    return Request(id=id, model=model, **{**settings, **more})


def pool(*endpoints: Endpoint, name: str = POOL, **more: Any) -> Pool:
    return Pool(name=name, endpoints=endpoints, **more)


def split(*targets: tuple[str, int], source: str = "InferenceModel default/x") -> Split:
    return Split.of(tuple(Target(model, weight) for model, weight in targets), source)


def public(name: str, *targets: tuple[str, int], pool: str = POOL, priority: int = 0) -> PublicModel:
    return PublicModel(name, pool, split(*(targets or ((name, 1),))), priority)


def catalog(*pools: Pool, models: Iterable[PublicModel] = (), **more: Any) -> Catalog:
    return Catalog(pools={each.name: each for each in pools}, models={each.name: each for each in models}, **more)


def picker(*plugins: tuple[Any, ...]) -> PickerConfig:
    """One profile of `(type, weight, parameters)`; weight and parameters may be left out."""
    specs, refs = [], []
    for kind, *rest in plugins:
        weight = next((each for each in rest if isinstance(each, int | float)), None)
        parameters = next((each for each in rest if isinstance(each, Mapping)), {})
        specs.append(PluginSpec(kind, kind, parameters))
        refs.append(PluginRef(kind, weight))
    return PickerConfig(plugins=tuple(specs), profiles=(ProfileSpec("default", tuple(refs)),))


class Brain:
    """An engine with a clock, tickets and a seed; what a test would otherwise write out again and again."""

    def __init__(
        self,
        *endpoints: Endpoint,
        seed: int = 1,
        config: PickerConfig | None = None,
        settings: EngineSettings | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self.now = 1000.0
        self.ticket = 0
        self.engine = Engine(settings or EngineSettings(), random.Random(seed), Meters())
        self.catalog = catalog or Catalog(pools={POOL: pool(*endpoints)}, passes_unknown_models=True)
        self.config = config or PickerConfig()
        self.configure(self.catalog)

    def configure(self, catalog: Catalog, config: PickerConfig | None = None) -> None:
        self.catalog = catalog
        self.engine.receive(Configured(catalog, config or self.config), self.now)

    def tell(self, name: str, waiting: float = 0, running: float = 0, kv_use: float = 0.0, **more: Any) -> None:
        """A page of `default/NAME:8000` was read."""
        key = name if ":" in name else f"default/{name}:8000"
        self.engine.receive(Sampled(key, sample(waiting, running, kv_use, **more)), self.now)

    def list_models(self, name: str, *models: str, **adapters: str) -> None:
        listed: dict[str, str | None] = {**dict.fromkeys(models), **adapters}
        self.engine.receive(ModelsListed(f"default/{name}:8000", listed), self.now)

    def ask(self, model: str | None = "m", **more: Any) -> Outcome:
        """The outcome; `self.ticket` is its ticket."""
        self.ticket += 1
        what = more.pop("request", None) or request(model, **{"id": f"r{self.ticket}", **more})
        (decided,) = self.engine.receive(Ask(self.ticket, what), self.now)
        assert decided.ticket == self.ticket
        return decided.outcome

    def pick(self, model: str | None = "m", **more: Any) -> str:
        """The name of the server that is picked first."""
        outcome = self.ask(model, **more)
        assert isinstance(outcome, Picked), outcome
        return outcome.endpoints[0].server

    def refusal(self, model: str | None = "m", **more: Any) -> Refused:
        outcome = self.ask(model, **more)
        assert isinstance(outcome, Refused), outcome
        return outcome


def candidates(*samples: Sample, now: float = 0.0, target_model: str | None = None) -> Candidates:
    """Endpoints a, b, c... of a fleet of their own, one for each sample, all read at `now`."""
    fleet = Fleet(endpoint(chr(ord("a") + place)) for place in range(len(samples)))
    for member, each in zip(fleet.members, samples, strict=True):
        fleet.sampled(member, each, now)
    return Candidates(fleet, fleet.members, target_model)


def context(what: Request | None = None, **more: Any) -> Context:
    return Context(what or request(), random.Random(1), more.pop("now", 0.0), **more)
