"""`--server URL`: the simple case as the same objects that files would hold, so that nothing below knows of it.

One ModelServer per URL and one InferencePool `default/default` over them. The pool fails open: whoever asks for one
address in front of two servers wants answers more than picks, should the picker be silent.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from stellwerk.control.address import is_name, is_reachable, literal
from stellwerk.control.fields import OWN_GROUP, POOL_GROUP, Metadata
from stellwerk.control.finding import Finding, shown
from stellwerk.control.intake import Intake, Item, Origin
from stellwerk.control.kinds import EndpointPickerRef, InferencePool, ModelServer, PoolSpec, Port, Selector, ServerSpec
from stellwerk.model.catalog import FailureMode

LABELS = {f"{OWN_GROUP}/pool": "default"}
FLAG = "--server"
_CREDENTIALS = re.compile(r"(?<=//)[^/]*@|^[^/]*@")


class _HostPort(Struct, frozen=True):
    host: str
    port: int

    @property
    def object_name(self) -> str:
        """A valid object name that says which server it is."""
        text = self.host.lower().rstrip(".").replace("_", "-")
        if ":" in text:
            text = f"ip6-{text.replace(':', '-')}"
        return f"{text.strip('-')}-{self.port}"


def from_urls(urls: Iterable[str]) -> Intake:
    """The objects for `urls`, in order; with problems for those that cannot be one."""
    servers: dict[_HostPort, str] = {}
    problems: list[Finding] = []
    for url in urls:
        parsed = _parsed(url)
        if isinstance(parsed, str):
            problems.append(Finding(_source(url), 0, 0, "", parsed))
        elif parsed in servers:
            problems.append(Finding(_source(url), 0, 0, "", "the same server is given twice"))
        else:
            servers[parsed] = url
    items = [Item(_server(server), Origin(_source(url), index)) for index, (server, url) in enumerate(servers.items())]
    if servers:
        items.append(Item(_pool(next(iter(servers)).port), Origin(FLAG, len(items))))
    return Intake(items=tuple(items), problems=tuple(problems))


def _source(url: str) -> str:
    """The flag as it was given, without credentials."""
    return f"{FLAG} {shown(_CREDENTIALS.sub('...@', url))}"


def _server(server: _HostPort) -> ModelServer:
    return ModelServer(
        api_version=f"{OWN_GROUP}/v1alpha1",
        kind="ModelServer",
        metadata=Metadata(name=server.object_name, labels=LABELS),
        spec=ServerSpec(address=server.host, ports=(server.port,)),
    )


def _pool(port: int) -> InferencePool:
    return InferencePool(
        api_version=f"{POOL_GROUP}/v1",
        kind="InferencePool",
        metadata=Metadata(name="default"),
        spec=PoolSpec(
            selector=Selector(LABELS),
            target_ports=(Port(port),),
            endpoint_picker_ref=EndpointPickerRef(name=OWN_GROUP, kind="BuiltIn", failure_mode=FailureMode.OPEN),
        ),
    )


def _parsed(url: str) -> _HostPort | str:
    """Host and port, or what is wrong."""
    has_scheme = "://" in url
    try:
        parts = urlsplit(url if has_scheme else f"//{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return f"{error}: write it like http://10.0.0.7:8000"
    if parts.scheme == "https":
        return "TLS to model servers is not supported yet: use http:// within a private network"
    if parts.scheme not in ("", "http"):
        return f'the scheme "{shown(parts.scheme)}" is not supported: write it like http://10.0.0.7:8000'
    if parts.username is not None or parts.password is not None:
        return "credentials do not belong into a server's address: clients send their own Authorization header"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        extra = shown(urlunsplit(("", "", parts.path, parts.query, parts.fragment)))
        return f'leave out "{extra}": requests keep the path that the client asked for'
    if port is None and not has_scheme:
        return f"the port is missing: write it like {shown(host or 'host')}:8000"
    return _reachable(host, 80 if port is None else port)


def _reachable(host: str, port: int) -> _HostPort | str:
    address = literal(host)
    if port == 0:
        return "port 0 is none to connect to: write it like http://10.0.0.7:8000"
    if address is not None:
        return _HostPort(address, port) if is_reachable(address) else f'"{address}" is an address to listen on'
    if is_name(host):
        return _HostPort(host, port)
    return f'"{shown(host)}" is neither an IP address nor a DNS name: write it like http://10.0.0.7:8000'
