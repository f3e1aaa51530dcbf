"""An endpoint: one `ip:port` that serves models. Immutable; its load lives in the Fleet's columns."""

from collections.abc import Mapping

from msgspec import Struct, field


class Endpoint(Struct, frozen=True):
    """One port of one model server (a server with k ports is k endpoints: data-parallel ranks).

    `key` is unique in the catalog and says which object it came from: `namespace/name:port`. Counters belong to the
    endpoint object of one catalog lifetime: a server that is deleted and created again under the same key is recognised
    by another `uid`.
    """

    key: str
    server: str
    namespace: str
    host: str
    """A literal IPv4 or IPv6 address, without brackets."""
    port: int
    engine: str = "vllm"
    """Dialect of its metrics page: vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton."""
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    rank: int = 0

    @property
    def address(self) -> str:
        """`ip:port` as Envoy and the endpoint picker protocol write it; IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
