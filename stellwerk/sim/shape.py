"""What a simulated server is made of: step times, KV memory, batch limits; and the presets people choose from.

The step time is the linear model that fits a continuous-batching engine well:
`seconds = base + per_sequence * sequences + per_context_token * context + prefill_tokens / prefill_rate`.
"""

from msgspec import Struct


class StepTime(Struct, frozen=True):
    """Seconds one engine step takes. All zero: an engine that answers at once."""

    base_seconds: float = 0.0
    per_sequence_seconds: float = 0.0
    per_context_token_seconds: float = 0.0
    """Per token of context that the batch's sequences attend to: reading the KV cache."""
    prefill_tokens_per_second: float = 0.0
    """Prompt tokens computed per second; 0 means infinitely many."""
    adapter_load_seconds: float = 0.0
    """Loading an adapter into a slot; the whole batch waits for it, as it does in vLLM."""


class Shape(Struct, frozen=True):
    """One server. `problem()` says what is impossible about it."""

    step: StepTime = StepTime()
    block_size: int = 16
    """Tokens per KV block."""
    block_count: int = 16_384
    max_sequences: int = 256
    """Sequences computed at the same time (`--max-num-seqs`)."""
    max_batched_tokens: int = 8_192
    """Token budget of one step (`--max-num-batched-tokens`): decodes first, then chunks of prefill."""
    max_adapters: int = 0
    """Adapter slots (`--max-loras`); 0: the server was started without adapters."""
    has_prefix_cache: bool = True

    @property
    def kv_tokens(self) -> int:
        """How many tokens the KV memory holds."""
        return self.block_size * self.block_count

    def problem(self) -> str | None:
        """The first impossible thing, or None."""
        for name in ("block_size", "block_count", "max_sequences", "max_batched_tokens"):
            if getattr(self, name) < 1:
                return f"{name} is {getattr(self, name)}: it must be at least 1"
        if self.max_batched_tokens < self.max_sequences:
            return (
                f"max_batched_tokens is {self.max_batched_tokens}, less than max_sequences ({self.max_sequences}): "
                "every running sequence needs one token of the budget per step"
            )
        if self.max_adapters < 0:
            return f"max_adapters is {self.max_adapters}: it must not be negative"
        if any(getattr(self.step, name) < 0 for name in StepTime.__struct_fields__):
            return "step times must not be negative"
        return None


SPEEDS = {
    "instant": Shape(max_sequences=4_096, max_batched_tokens=1_000_000, block_size=128, block_count=16_384),
    "laptop": Shape(
        step=StepTime(0.020, 0.001, 2e-7, 1_500.0, 0.5),
        block_count=4_096,
        max_sequences=16,
        max_batched_tokens=2_048,
    ),
    "h100-8b": Shape(
        step=StepTime(0.007, 0.000_02, 5.6e-8, 27_000.0, 0.15),
        block_count=24_800,
        max_sequences=256,
        max_batched_tokens=8_192,
    ),
}
"""`instant` computes nothing; `laptop` is a small model on a CPU; `h100-8b` is an 8B model on one H100: 131 KB of KV
per token read at 2.3 TB/s, 52 GB left for it, half of the tensor cores' peak in prefill."""
