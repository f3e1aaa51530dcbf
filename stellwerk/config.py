"""One frozen tree of settings: made from the command line once, handed down in parts, never read from anywhere else.

Every flag of a command may also be set in the environment as `STELLWERK_<COMMAND>_<FLAG>`; click reads those, and
nothing else in the package looks at the environment. The supervisor hands the tree to its children as JSON.
"""

from msgspec import Struct

from stellwerk.exchange.limits import BodyLimits


class Address(Struct, frozen=True):
    """Where to listen: `host:port`, or a Unix socket path when `path` is set. No host: every address there is."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None


class TransportLimits(Struct, frozen=True):
    """Bounds of the gRPC transport, per connection unless said. A peer that exceeds one is sent off."""

    max_concurrent_streams: int = 10_000
    max_message_bytes: int = 20 * 1024 * 1024
    """One gRPC message, as it comes and decompressed; above the body limit, because Envoy sends a buffered body as one
    message."""
    max_header_list_bytes: int = 64 * 1024
    stream_window_bytes: int = 128 * 1024
    """What a message may send before it has room of its own; `connection_window_bytes` / 4 / this many large messages
    may be under way at once, more are refused with RESOURCE_EXHAUSTED."""
    connection_window_bytes: int = 64 * 1024 * 1024
    """Also what the compressed messages of one read may grow to."""
    max_unsent_bytes: int = 64 * 1024 * 1024
    """Output waiting for a peer's windows; beyond it the connection is closed."""
    max_connections: int = 1024
    """Over all listeners of one server."""
    idle_timeout_seconds: float = 600.0
    """A connection without streams for so long gets GOAWAY."""
    handshake_timeout_seconds: float = 10.0
    """From accept to the client preface, TLS included."""
    ping_interval_seconds: float = 30.0
    ping_timeout_seconds: float = 20.0
    """Half-open connections are found by PING and closed."""
    max_control_frames_per_second: int = 2_000
    """PING, SETTINGS, RST_STREAM, PRIORITY, WINDOW_UPDATE on idle streams, empty DATA: floods end the connection. The
    rate is over what legitimate streams explain."""


class Timeouts(Struct, frozen=True):
    """How long things may take, in seconds."""

    decision_seconds: float = 5.0
    """From a complete request to its decision; then the client gets a typed 504."""
    proxy_message_seconds: float = 2.0
    """Envoy's `message_timeout`: how long it waits for a silent picker before FailOpen or 504."""
    max_override_seconds: float = 120.0
    """Envoy's `max_message_timeout`: the longest wait a picker may ask for."""
    upstream_idle_seconds: float = 600.0
    """No byte from the model server for so long ends the request. Long prefills are silent: keep it generous."""
    client_idle_seconds: float = 600.0
    request_headers_seconds: float = 15.0
    drain_seconds: float = 30.0


class Scraping(Struct, frozen=True):
    """Adaptive polling of metrics pages."""

    busy_interval_seconds: float = 0.05
    idle_interval_seconds: float = 5.0
    timeout_seconds: float = 1.0
    max_page_bytes: int = 4 * 1024 * 1024
    models_interval_seconds: float = 10.0
    """How often `/v1/models` is read from a server that is well."""
    believed_seconds: float | None = None
    """Older readings are not believed at all; None: two seconds above the idle interval."""


class Observability(Struct, frozen=True):
    """Logs and the ring of decisions."""

    log_format: str = "auto"
    """text, json, or auto: text on a terminal."""
    log_level: str = "info"
    decisions_bytes: int = 16 * 1024 * 1024


class Cluster(Struct, frozen=True):
    """The pool of a picker as an API server has it: an InferencePool, or Pods by their labels."""

    kubeconfig: str | None = None
    """None: the Pod's service account, or the usual places."""
    namespace: str | None = None
    """None: that of the Pod, or of the kubeconfig's context."""
    pool_name: str | None = None
    pool_group: str = "inference.networking.k8s.io"
    selector: str = ""
    """Without `pool_name`: which Pods, as a label selector."""
    ports: tuple[int, ...] = ()
    elects: bool = False
    """Whether one of several replicas serves, and the others stand by."""
    instance: str | None = None
    """The Pod's name; None: the host's."""
    guards_metrics: bool = True
    """Whether the API server is asked who may read metrics."""


class Epp(Struct, frozen=True):
    """The endpoint picker on its own, behind a gateway that is not ours (`stellwerk epp`)."""

    grpc: Address = Address(port=9002)
    health: Address = Address(port=9003)
    is_secure: bool = True
    """TLS on the ext_proc port, self-signed unless `cert_path` is set."""
    cert_path: str | None = None
    """Directory with `tls.crt` and `tls.key`."""
    reloads_cert: bool = False
    has_health_on_grpc: bool = False
    """Whether the ext_proc port serves the health service too."""
    pool: str | None = None
    """`namespace/name` of the pool this picker serves; None: the only or the default pool of the objects."""
    is_strict: bool = False
    """Whether unknown model names are 404 instead of the server's business."""
    accepts_steering: bool = False
    """Whether `test-epp-endpoint-selection` is honoured and the served endpoint reported in a response header."""
    ignores_subset: bool = False
    """Whether the proxy's subset hint has no effect."""
    tls_min_version: str = "TLSv1.2"
    """`TLSv1.2` or `TLSv1.3`."""
    cluster: Cluster | None = None
    """None: the objects come from files and flags."""


class OwnGateway(Struct, frozen=True):
    """The Gateway whose traffic this process serves (`stellwerk gateway`)."""

    name: str
    """`namespace/name`."""
    controller: str = "stellwerk.dev/gateway-controller"
    """`spec.controllerName` of the classes that are ours."""
    kubeconfig: str | None = None
    picker_body_mode: str = "FullDuplexStreamed"
    """How pools' own pickers are shown bodies where the pool does not say: a value of `BodyMode`."""
    namespaces: tuple[str, ...] = ()
    """Only these are looked at; none: all."""


class Config(Struct, frozen=True):
    """The tree. Only composition roots see it whole."""

    listen: Address = Address(port=8080)
    admin: Address = Address(port=9090)
    objects: tuple[str, ...] = ()
    """Files and directories to read objects from."""
    servers: tuple[str, ...] = ()
    """URLs of the simple case (`--server`)."""
    picker_config: str | None = None
    """File of an EndpointPickerConfig."""
    picker_text: str | None = None
    """An EndpointPickerConfig itself."""
    trusted_sources: tuple[str, ...] = ()
    """CIDRs whose identity and priority headers are believed; nobody by default."""
    body: BodyLimits = BodyLimits()
    transport: TransportLimits = TransportLimits()
    timeouts: Timeouts = Timeouts()
    scraping: Scraping = Scraping()
    observability: Observability = Observability()
    prefix_index_bytes: int = 256 * 1024 * 1024
    """Upper bound of the prefix index over all servers."""
    epp: Epp = Epp()
    gateway: OwnGateway | None = None
    """None: not a gateway of a cluster."""
    emits_scores: bool = False
    """Whether scores go to dynamic metadata `x-gateway-destination-endpoint-scores`."""
