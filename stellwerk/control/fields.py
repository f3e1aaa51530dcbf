"""What the kinds share: API groups, the bounded texts that fields are made of, metadata. `kinds` builds on it."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

POOL_GROUP = "inference.networking.k8s.io"
LEGACY_GROUP = "inference.networking.x-k8s.io"
ROUTER_GROUP = "llm-d.ai"
OWN_GROUP = "stellwerk.dev"
POOL_REF_GROUPS = frozenset({POOL_GROUP, LEGACY_GROUP, ROUTER_GROUP})
"""Groups under which references name a pool; CustomResourceDefinitions of different ages default to different ones."""

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
SUBDOMAIN_WORDS = "a DNS name: lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
)
LABEL_KEY_WORDS = (
    "a label key: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends; "
    "a DNS name and '/' may come before"
)
LABEL_VALUE_WORDS = "a label value: letters, digits, '-', '_' and '.', with a letter or digit at both ends, or empty"

Name = Annotated[str, Meta(min_length=1, max_length=253, pattern=SUBDOMAIN, extra={"is": SUBDOMAIN_WORDS})]
Namespace = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        extra={"is": "a namespace: lower-case letters, digits and '-', with a letter or digit at both ends"},
    ),
]
MAX_LABEL_KEY = 317
"""A DNS name of 253 characters, '/' and 63 more."""
LabelKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_LABEL_KEY,
        pattern=LABEL_KEY,
        extra={"is": LABEL_KEY_WORDS, "cel": "!format.qualifiedName().validate(key).hasValue()"},
    ),
]
AnyLabelKey = Annotated[
    str, Meta(min_length=1, max_length=MAX_LABEL_KEY, pattern=LABEL_KEY, extra={"is": LABEL_KEY_WORDS})
]
LabelValue = Annotated[
    str,
    Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", extra={"is": LABEL_VALUE_WORDS}),
]
Group = Annotated[
    str,
    Meta(max_length=253, pattern=rf"^$|{SUBDOMAIN}", extra={"is": 'an API group: a DNS name, or "" for core'}),
]
KindName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
        extra={"is": "a kind: letters, digits and '-', starting with a letter"},
    ),
]
ReferentName = Annotated[str, Meta(min_length=1, max_length=253)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=1, le=1_000_000)]


class Metadata(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """ObjectMeta, as `kubectl get -o yaml` writes it. What is not used here is accepted and ignored."""

    name: Name
    namespace: Namespace = "default"
    labels: dict[AnyLabelKey, LabelValue] = {}
    annotations: dict[AnyLabelKey, str] = {}
    creation_timestamp: Annotated[datetime, Meta(tz=True)] | None = None
    uid: str = ""
    generation: int | None = None
    resource_version: str | None = None
    generate_name: Any = None
    self_link: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    owner_references: Any = None
    finalizers: Any = None
    managed_fields: Any = None


class ReadObject(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What all kinds share. `status` is a controller's to write and not read here."""

    api_version: str
    kind: str
    metadata: Metadata
    status: Any = None

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def shown_name(self) -> str:
        """The name for messages, without the namespace if that is `default`."""
        return self.metadata.name if self.metadata.namespace == "default" else self.full_name

    @property
    def group(self) -> str:
        """The API group."""
        return self.api_version.rpartition("/")[0]
