"""What Envoy's configuration depends on besides the Catalog: where things are and how much is allowed."""

from msgspec import Struct


class RuntimePaths(Struct, frozen=True):
    """Every path that Envoy, picker and supervisor share, under one private directory (mode 0700).

    Socket paths must stay below 108 bytes, the kernel's limit; `edge.supervisor` checks that.
    """

    directory: str

    @property
    def picker_socket(self) -> str:
        """Where the picker serves ext_proc, access log and health to Envoy."""
        return f"{self.directory}/picker.sock"

    @property
    def admin_socket(self) -> str:
        """Envoy's admin interface: anybody who can open it can stop Envoy."""
        return f"{self.directory}/envoy-admin.sock"

    @property
    def bootstrap(self) -> str:
        """Read once, when Envoy starts."""
        return f"{self.directory}/bootstrap.json"

    @property
    def watched(self) -> str:
        """The directory of the files that Envoy watches."""
        return f"{self.directory}/envoy"

    @property
    def listeners(self) -> str:
        """LDS."""
        return f"{self.watched}/listeners.json"

    @property
    def routes(self) -> str:
        """RDS."""
        return f"{self.watched}/routes.json"

    @property
    def clusters(self) -> str:
        """CDS."""
        return f"{self.watched}/clusters.json"


class EnvoySettings(Struct, frozen=True):
    """Sizes in bytes, durations in seconds. Constant for the life of an Envoy process."""

    paths: RuntimePaths
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    """0 lets the kernel choose; Envoy's admin interface tells which."""
    trusted_sources: tuple[str, ...] = ()
    """CIDRs whose identity and priority headers are believed."""
    max_body_bytes: int = 16 * 1024 * 1024
    max_answer_bytes: int = 64 * 1024
    """The longest answer that the picker may ask to see whole."""
    message_seconds: float = 2.0
    """How long a silent picker is waited for."""
    foreign_picker_seconds: float = 60.0
    """How long a picker of somebody else may think about a request that was sent to it whole: it may have queues."""
    max_override_seconds: float = 120.0
    """The longest wait that the picker may ask for."""
    upstream_idle_seconds: float = 600.0
    client_idle_seconds: float = 600.0
    request_headers_seconds: float = 15.0
    connect_seconds: float = 2.0
    """To open a connection to a model server; then the next one of the list is tried."""
    keep_alive_seconds: float = 4.0
    """Idle connections to model servers are closed after so long: before the server does it (uvicorn, and with it
    vLLM, after 5 s), since a request sent into a closing connection is lost and costs a retry."""
    fallback_count: int = 2
    """How often a request that got no byte of an answer is tried on another server: the picker names a pick and two
    fallbacks."""
    max_connections: int = 10_000
    """From clients. Further ones are refused at accept."""
    max_heap_bytes: int = 2 * 1024**3
    """From 95 % of this on new requests are answered 503, until memory is given back."""
