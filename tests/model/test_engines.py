"""From a server's labels to the engine whose metrics are read."""

import pytest

from stellwerk.model.engines import ENGINES, Engine, EngineRule
from stellwerk.telemetry.dialects import DIALECTS

NEW, LEGACY = "llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"
SGLANG = EngineRule(default=Engine.SGLANG)
OWN_LABEL = EngineRule(label="engine", default=Engine.TRITON)


@pytest.mark.parametrize(
    ("rule", "labels", "engine"),
    [
        (EngineRule(), {}, Engine.VLLM),
        (EngineRule(), {NEW: "sglang"}, Engine.SGLANG),
        (EngineRule(), {LEGACY: "triton"}, Engine.TRITON),
        (EngineRule(), {NEW: "vllm", LEGACY: "triton"}, Engine.VLLM),
        (EngineRule(), {NEW: "", LEGACY: "triton"}, Engine.TRITON),
        (EngineRule(), {NEW: "of my own"}, Engine.VLLM),
        (SGLANG, {}, Engine.SGLANG),
        (SGLANG, {NEW: "of my own"}, Engine.SGLANG),
        (SGLANG, {NEW: "vllm"}, Engine.VLLM),
        (OWN_LABEL, {NEW: "sglang"}, Engine.TRITON),
        (OWN_LABEL, {"engine": "sglang", NEW: "vllm"}, Engine.SGLANG),
        (OWN_LABEL, {LEGACY: "sglang"}, Engine.SGLANG),
    ],
)
def test_the_label_says_which_engine_it_is_else_the_default(
    rule: EngineRule, labels: dict[str, str], engine: Engine
) -> None:
    assert rule.of(labels) is engine


def test_every_engine_has_a_dialect() -> None:
    assert ENGINES.keys() == DIALECTS.keys()
