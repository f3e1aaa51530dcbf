"""What the simulated engine is given and what it says: jobs, events in virtual time, counters."""

from collections.abc import Sequence

from msgspec import Struct


class Job(Struct, frozen=True, gc=False):
    """One sequence to compute. `id` is unique in the model's life."""

    id: int
    prompt_tokens: int
    """At least 1."""
    output_tokens: int
    """Tokens to generate; 0 for pooling (embeddings, scores), which ends with the prefill."""
    block_hashes: Sequence[int] = ()
    """Hash of each full block of prompt and answer, each covering adapter, salt and all tokens before. Blocks past the
    end of this list are never shared."""
    adapter: str = ""


class FirstToken(Struct, frozen=True, gc=False):
    """The prefill is done and the first token is out, at `at` seconds."""

    id: int
    at: float


class Preempted(Struct, frozen=True, gc=False):
    """A running sequence lost its memory and waits at the head of the queue to be computed again."""

    id: int
    at: float


class Finished(Struct, frozen=True, gc=False):
    """The last token is out. Times in seconds; `first_token_at` equals `at` for pooling."""

    id: int
    at: float
    arrived_at: float
    scheduled_at: float
    first_token_at: float
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens found in the prefix cache when it was first scheduled."""
    output_tokens: int
    preemptions: int


class Stepped(Struct, frozen=True, gc=False):
    """`steps` steps ended, the last one at `at`: in each, `decodes` sequences made one more token. Only with
    `reports_steps`."""

    at: float
    seconds: float
    """Of one step, on average."""
    decodes: int
    prefill_tokens: int
    steps: int = 1


Event = FirstToken | Preempted | Finished | Stepped


class Counters(Struct):
    """Totals since the model was made."""

    steps: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of sequences whose first prefill ended, cached ones included."""
    cached_tokens: int = 0
    generated_tokens: int = 0
    queried_tokens: int = 0
    """Prompt tokens looked up in the prefix cache."""
    hit_tokens: int = 0
    preemptions: int = 0
    adapter_loads: int = 0
