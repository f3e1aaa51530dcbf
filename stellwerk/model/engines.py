"""Which engine a server runs: it decides how its metrics page is read."""

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

ENGINE_LABEL = "llm-d.ai/engine-type"
LEGACY_ENGINE_LABEL = "inference.networking.k8s.io/engine-type"


class Engine(Enum):
    """Whose metrics a model server speaks."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TRTLLM_SERVE = "trtllm-serve"
    TRITON_TENSORRT_LLM = "triton-tensorrt-llm"
    TRITON = "triton"


ENGINES = {engine.value: engine for engine in Engine}


class EngineRule(Struct, frozen=True):
    """How the engine of a server follows from its labels, as upstream's `core-metrics-extractor` has it: the label
    `label`, else the legacy one; `default` for a server without both, or with an engine that is not known."""

    label: str = ENGINE_LABEL
    default: Engine = Engine.VLLM

    def of(self, labels: Mapping[str, str]) -> Engine:
        """The engine of a server with `labels`."""
        named = labels.get(self.label) or labels.get(LEGACY_ENGINE_LABEL) or ""
        return ENGINES.get(named, self.default)


DEFAULT_ENGINES = EngineRule()
