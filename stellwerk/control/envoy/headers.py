"""Which request headers a client may not send, and how Envoy takes them off before anything reads them.

Whatever decides about a destination is never the client's to say. Who somebody is and how urgent their request is
may be said by a trusted source only (an authenticating proxy in front of the gateway).
"""

from stellwerk.control.envoy.document import Document, extension

POOL_HEADER = "x-stellwerk-pool"
"""Set by the picker: the route's only criterion."""
DESTINATION_HEADER = "x-gateway-destination-endpoint"
"""The endpoint picker protocol's header, and the key of the same list in dynamic metadata `envoy.lb`."""

STEERING = "test-epp-endpoint-selection"
"""By which the conformance suite's clients tell its picker where to go."""

INTERNAL = (
    "x-stellwerk-",
    "x-envoy-",
    DESTINATION_HEADER,
    "x-prefiller-",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    STEERING,
)
"""Prefixes of what names a destination somewhere: here, in the picker protocol, in side-cars of model servers."""

IDENTITY = ("x-llm-d-", "x-gateway-inference-", "x-gateway-model-name", "x-slo-")
"""Prefixes of tenant, objective, model override and latency goals."""


def removals(prefixes: tuple[str, ...]) -> list[Document]:
    """Header mutations that remove every header with one of `prefixes` (Envoy's names are lower-case already)."""
    return [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes]


ROUTE_INTERNAL = tuple(each for each in INTERNAL if each != STEERING)
"""Where foreign pickers may serve, what clients say to them is not ours to take away."""
ROUTE_IDENTITY = ("x-llm-d-", "x-gateway-inference-", "x-gateway-model-name-rewrite", "x-slo-")
"""`x-gateway-model-name` is not among them: HTTPRoutes may match it."""


def early_strip(trusted_sources: tuple[str, ...]) -> Document:
    """What no client of a gateway for one machine may send."""
    return stripped_early(INTERNAL if trusted_sources else INTERNAL + IDENTITY)


def stripped_early(prefixes: tuple[str, ...]) -> Document:
    """Runs before Envoy chooses a route for the first time, so that no forged header is ever part of that choice."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=removals(prefixes),
    )


def identity_strip(trusted_sources: tuple[str, ...], prefixes: tuple[str, ...] = IDENTITY) -> Document:
    """The filter that removes identity headers unless the connection comes from one of `trusted_sources` (CIDRs).

    The address is that of the connection, not what x-forwarded-for says.
    """
    strip = extension(
        "envoy.filters.http.header_mutation",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": removals(prefixes)},
    )
    source = extension("source", "envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput")
    ranges = extension(
        "trusted",
        "envoy.extensions.matching.input_matchers.ip.v3.Ip",
        cidr_ranges=[_cidr(each) for each in trusted_sources],
        stat_prefix="trusted",
    )
    return skipped_when("stellwerk.identity", strip, {"input": source, "custom_match": ranges})


def skipped_when(name: str, inner: Document, predicate: Document) -> Document:
    """The filter `inner`, left out for requests that fit `predicate` (an xds SinglePredicate)."""
    skip = {"action": extension("skip", "envoy.extensions.filters.common.matcher.action.v3.SkipFilter")}
    matcher = {"predicate": {"single_predicate": predicate}, "on_match": skip}
    return extension(
        name,
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=inner,
        xds_matcher={"matcher_list": {"matchers": [matcher]}},
    )


def _cidr(text: str) -> Document:
    address, _, length = text.partition("/")
    return {"address_prefix": address, "prefix_len": int(length) if length else 128 if ":" in address else 32}
