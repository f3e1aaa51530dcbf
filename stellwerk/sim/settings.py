"""Settings of simulated servers, made once by the command line, a test or the demo."""

from msgspec import Struct

from stellwerk.sim.answers import AnswerLength
from stellwerk.sim.connection import ConnectionSettings
from stellwerk.sim.faults import Fault
from stellwerk.sim.shape import SPEEDS, Shape

VERSION = "0.32.0"
"""The vLLM whose answers were recorded."""


class SimSettings(Struct, frozen=True):
    """`count` servers alike, on consecutive ports from `port` (0: free ports)."""

    count: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ("tiny",)
    """Names of the one base model; the first is its real name, the others are aliases."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters loaded at the start."""
    shape: Shape = SPEEDS["h100-8b"]
    max_model_tokens: int = 32_768
    """Prompt and answer together (`--max-model-len`)."""
    answer: AnswerLength = AnswerLength()
    seed: int = 0
    faults: tuple[tuple[int, Fault], ...] = ()
    """(server, fault) in force from the start."""
    echoes: bool = True
    """Every answer tells its server and the SHA-256 of the body that arrived (`x-sim-server`, `x-sim-body-sha256`), and
    the request's head where the request has `x-sim-echo-headers`. Without: exactly vLLM's headers."""
    reports_cached_tokens: bool = False
    """`usage.prompt_tokens_details.cached_tokens` (vLLM's `--enable-prompt-tokens-details`)."""
    metrics_padding_bytes: int = 0
    """Comment lines added to `/metrics`, to make pages as large as those of servers with more to tell."""
    connection: ConnectionSettings = ConnectionSettings()

    def problem(self) -> str | None:
        """The first impossible thing, or None."""
        if not 1 <= self.count <= 1_000:
            return f"count is {self.count}: it must be 1 to 1000"
        if self.port < 0 or self.port + self.count - 1 > 65_535:
            return f"ports {self.port} to {self.port + self.count - 1} are not all between 0 and 65535"
        if not self.models or not all(self.models):
            return "no model name given"
        names = self.models + self.adapters
        for name in names:
            if names.count(name) > 1:
                return f"the name {name!r} is given twice"
        if self.adapters and not self.shape.max_adapters:
            return "adapters need slots: max_adapters is 0"
        problem = self.shape.problem()
        if problem is not None:
            return problem
        if self.max_model_tokens < 1:
            return f"max_model_tokens is {self.max_model_tokens}: it must be at least 1"
        if self.max_model_tokens > self.shape.kv_tokens:
            return (
                f"max_model_tokens is {self.max_model_tokens}, but KV memory holds {self.shape.kv_tokens} tokens "
                f"({self.shape.block_count} blocks of {self.shape.block_size}): raise one or lower the other"
            )
        return None
