"""What all endpoints of one simulated server share: its names, its engine, its pages. A restart makes a new one."""

import time

import msgspec

from stellwerk.sim import errors, fields, tokens
from stellwerk.sim.connection import Exchange
from stellwerk.sim.engine import Engine
from stellwerk.sim.fields import Body
from stellwerk.sim.http_metrics import HttpMetrics, ProcessMetrics
from stellwerk.sim.settings import VERSION, SimSettings

_MAX_ID = 128
_PADDING = "# padding asked for by --metrics-padding\n"


class Serving:
    """One life of a server process."""

    def __init__(self, settings: SimSettings, index: int) -> None:
        self.settings = settings
        self.engine = Engine(settings)
        self.adapters: dict[str, str] = dict.fromkeys(settings.adapters, "")
        """Loaded adapters and where they came from."""
        self.fingerprint = f"vllm-{VERSION}-{tokens.seed_of(*settings.models) & 0xFFFFFFFF:08x}"
        self.http = HttpMetrics(self.engine.started_at)
        self._process = ProcessMetrics(self.engine.started_at)
        self._created = int(time.time())
        self._answers = tokens.seed_of(str(settings.seed), str(index), str(self.engine.started_at))
        self._padding = _PADDING * (-(-settings.metrics_padding_bytes // len(_PADDING)))

    def model_of(self, body: Body) -> str:
        """The model or adapter that a body names; none means the base model. Raises ApiError."""
        name = fields.string(body, "model") or self.settings.models[0]
        if name not in self.settings.models and name not in self.adapters:
            raise errors.unknown_model(name, self.settings.models)
        return name

    def adapter_of(self, body: Body) -> str:
        """The adapter that a body names, or "" for the base model."""
        name = body.get("model")
        return name if isinstance(name, str) and name in self.adapters else ""

    def answer_id(self, exchange: Exchange) -> str:
        """The caller's `x-request-id`, as vLLM does it, or 16 hexadecimal digits."""
        given = exchange.request.headers.get("x-request-id")
        if given:
            return given[:_MAX_ID]
        self._answers = (self._answers * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
        return f"{self._answers:016x}"

    def cards(self) -> list[dict[str, object]]:
        """The models as `/v1/models` lists them."""
        base = self.settings.models[0]
        cards = [self._card(name, base, None, self.settings.max_model_tokens) for name in self.settings.models]
        return cards + [self._card(name, path or name, base, None) for name, path in self.adapters.items()]

    def _card(self, name: str, root: str, parent: str | None, context: int | None) -> dict[str, object]:
        permission = {
            "id": f"modelperm-{tokens.seed_of(name, str(self._created)):016x}",
            "object": "model_permission",
            "created": self._created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        head = {"id": name, "object": "model", "created": self._created, "owned_by": "vllm", "root": root}
        return {**head, "parent": parent, "max_model_len": context, "permission": [permission]}

    def page(self) -> str:
        """The metrics page."""
        parts = (self._process.render(), self.engine.metrics.render(), self.http.render(), self._padding)
        return "".join(parts)

    def state(self) -> dict[str, object]:
        """What `/sim/state` tells about the engine."""
        model = self.engine.model
        return {
            "running": model.running,
            "waiting": model.waiting,
            "kv_use": model.kv_use,
            "is_wedged": model.is_stalled,
            "slowness": model.slowness,
            "adapters": list(self.adapters),
            "resident_adapters": list(model.adapters.resident),
            "started_at": self.engine.started_at,
            "counters": msgspec.to_builtins(model.counters),
        }
