"""What a request will weigh while it is in flight: `inflight-load-producer`'s parameters and formula."""

from stellwerk.model.request import Request
from stellwerk.schedule.plugin import Plugin


class InflightLoadProducer(Plugin, frozen=True):
    """In flight per endpoint: requests, and tokens = uncached prompt tokens, plus estimated output if asked for."""

    add_estimated_output_tokens: bool = False
    output_ratio: float = 1.5
    """Output tokens per prompt token."""
    max_estimated_output_tokens: int = 0
    """0: no cap but the client's."""
    prefix_match_info_producer_name: str = ""
    sync_cross_replica_state: bool = False

    def __post_init__(self) -> None:
        if self.output_ratio < 0:
            raise ValueError("outputRatio must not be negative")
        if self.max_estimated_output_tokens < 0:
            raise ValueError("maxEstimatedOutputTokens must not be negative")
        if self.sync_cross_replica_state:
            raise ValueError("syncCrossReplicaState is not supported yet: leave it out")

    def output_tokens(self, request: Request) -> int:
        """Estimated output: min(prompt * ratio, the client's cap, the configured cap), or 0 if not asked for."""
        if not self.add_estimated_output_tokens:
            return 0
        estimate = int(request.prompt_tokens * self.output_ratio)
        if request.max_output_tokens is not None:
            estimate = min(estimate, max(0, request.max_output_tokens))
        return min(estimate, self.max_estimated_output_tokens) if self.max_estimated_output_tokens else estimate
