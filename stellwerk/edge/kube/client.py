"""Requests to an API server on plain dicts: each bounded in time and in size, every failure an ApiError.

Reflectors, status writers, leases and reviews all come through here. One client per process; made anywhere, used on one
event loop.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import aiohttp
import msgspec
from msgspec import Struct

from stellwerk.control.kube.resource import Object, Resource
from stellwerk.edge.kube.access import Access, Credentials, find
from stellwerk.edge.kube.errors import ApiError, error_of
from stellwerk.edge.kube.pulse import DEFAULT_PULSE, Pulse, PulsePace
from stellwerk.edge.kube.stream import WatchStream

PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_JSON = "application/json"


class ClientLimits(Struct, frozen=True):
    """Bounds of every request. Times in seconds."""

    connect_seconds: float = 3.0
    answer_seconds: float = 15.0
    """From the request to the last byte of the answer."""
    watch_start_seconds: float = 10.0
    """From the request for a watch to the head of its answer; the answer may be long in coming on a busy server."""
    idle_seconds: float = 120.0
    """A watch that is silent for so long is given up; servers send bookmarks about every minute."""
    max_answer_bytes: int = 64 * 1024 * 1024
    max_line_bytes: int = 8 * 1024 * 1024
    """One watch event. etcd holds objects up to 1.5 MB."""


DEFAULT_LIMITS = ClientLimits()


class _PageMetadata(Struct, rename={"resource_version": "resourceVersion", "go_on": "continue"}):
    resource_version: str = ""
    go_on: str = ""


class Page(Struct):
    """One page of a list. `items` are not decoded yet, so that whoever reads many can pause in between."""

    metadata: _PageMetadata = msgspec.field(default_factory=_PageMetadata)
    items: list[msgspec.Raw] | None = None


class Listed(Struct, frozen=True):
    """A whole list, and the version that a watch goes on from."""

    items: list[Object]
    version: str


class KubeClient:
    """One API server. Owner of the connections; `close` ends them."""

    def __init__(
        self,
        access: Access,
        limits: ClientLimits = DEFAULT_LIMITS,
        user_agent: str = "stellwerk",
        pulse: PulsePace = DEFAULT_PULSE,
    ) -> None:
        self.access, self.limits = access, limits
        self.pulse = Pulse(self._are_you_there, pulse)
        """Whether the server answers; somebody has to run it."""
        self._user_agent = user_agent
        self._credentials = Credentials(access)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_environment(cls, kubeconfig: str | None = None, limits: ClientLimits = DEFAULT_LIMITS) -> "KubeClient":
        """By `kubeconfig`, $KUBECONFIG, the Pod's service account, or ~/.kube/config. Raises NoCluster, an OSError."""
        client = cls(find(kubeconfig), limits)
        client._credentials.refresh()
        return client

    @property
    def namespace(self) -> str:
        """The Pod's namespace, or that of the kubeconfig's context."""
        return self.access.namespace

    async def close(self) -> None:
        """End all connections. The client can be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """One object."""
        return await self.call("GET", resource.path(namespace, name, subresource))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
    ) -> Listed:
        """All objects, in pages. A token that expires in between is a 410: list again."""
        items: list[Object] = []
        go_on = ""
        while True:
            page = await self.page(resource, namespace, label_selector, field_selector, page_size, go_on)
            items += [complete(resource, msgspec.json.decode(raw)) for raw in page.items or ()]
            go_on = page.metadata.go_on
            if not go_on:
                return Listed(items, page.metadata.resource_version)

    async def page(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
        go_on: str = "",
    ) -> Page:
        """One page; `go_on` is the token of the page before."""
        query = {"limit": str(page_size), "labelSelector": label_selector, "fieldSelector": field_selector}
        body = await self._body("GET", resource.path(namespace), {**query, "continue": go_on})
        try:
            return msgspec.json.decode(body, type=Page)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(0, "Malformed", f"a list of {resource} is not one: {error}") from None

    async def create(
        self, resource: Resource, value: Mapping[str, Any], namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """A new object; with `subresource` one of an object named in `value` (an eviction, a token)."""
        metadata = value.get("metadata", {})
        name = metadata.get("name") if subresource else None
        path = resource.path(namespace or metadata.get("namespace"), name, subresource)
        return await self.call("POST", path, value)

    async def replace(self, resource: Resource, value: Mapping[str, Any], subresource: str | None = None) -> Object:
        """The whole object; 409 if its resourceVersion is not the newest."""
        metadata = value["metadata"]
        return await self.call("PUT", resource.path(metadata.get("namespace"), metadata["name"], subresource), value)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: object,
        namespace: str | None = None,
        *,
        kind: Literal["merge", "json", "apply"] = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        is_forced: bool = False,
    ) -> Object:
        """A part of the object. `is_forced` takes fields over from other managers (server-side apply)."""
        query = {"fieldManager": field_manager, "force": "true" if is_forced else None}
        return await self.call("PATCH", resource.path(namespace, name, subresource), patch, query, PATCHES[kind])

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str | None = None
    ) -> Object:
        """Only if it still has `uid`, where that is given."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self.call("DELETE", resource.path(namespace, name), options)

    async def call(
        self,
        method: str,
        path: str,
        value: object = None,
        query: Mapping[str, str | None] | None = None,
        content_type: str = _JSON,
    ) -> Object:
        """Any request that is answered by one object. Raises ApiError."""
        body = await self._body(method, path, query, value, content_type)
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(0, "Malformed", f"the answer to {method} {path} is no JSON: {error}") from None
        if not isinstance(said, dict):
            raise ApiError(0, "Malformed", f"the answer to {method} {path} is no object")
        return said

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        version: str = "",
        seconds: float = 300.0,
    ) -> AsyncIterator[WatchStream]:
        """The events after `version`, for `seconds` at most. Raises ApiError, also out of the stream."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            # A server that sends no bookmarks ends a quiet watch before its silence looks like a fault.
            "timeoutSeconds": str(max(1, round(min(seconds, 0.8 * self.limits.idle_seconds)))),
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        limits = self.limits
        timeout = aiohttp.ClientTimeout(total=seconds + limits.answer_seconds, sock_connect=limits.connect_seconds)
        path = resource.path(namespace)
        response = await self._send("GET", path, query, None, _JSON, timeout, limits.watch_start_seconds)
        try:
            what, heard = f"watch of {resource}", self.pulse.heard
            yield WatchStream(response.content, limits.max_line_bytes, limits.idle_seconds, what, heard)
        finally:
            _break_off(response)

    async def _are_you_there(self) -> bytes:
        """Everybody may ask that. A server that is about to go still serves: "shutdown" is no fault."""
        return await self._body("GET", "/readyz", {"exclude": "shutdown"})

    async def _body(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        value: object = None,
        content_type: str = _JSON,
    ) -> bytes:
        """The body of a successful answer."""
        limits = self.limits
        timeout = aiohttp.ClientTimeout(total=limits.answer_seconds, sock_connect=limits.connect_seconds)
        response = await self._send(method, path, query, value, content_type, timeout, limits.answer_seconds)
        try:
            with _translated(method, path):
                return await _read(response, limits.max_answer_bytes)
        finally:
            response.release() if response.content.at_eof() else _break_off(response)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None,
        value: object,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
        head_seconds: float,
    ) -> aiohttp.ClientResponse:
        """The head of a successful answer; after a 401 with credentials read anew, once."""
        for is_second in (False, True):
            with _translated(method, path):
                self._credentials.refresh(is_refused=is_second)
                async with asyncio.timeout(head_seconds):
                    response = await self._request(method, path, query, value, content_type, timeout)
            if response.status < 500:
                # A gateway in between says 502 to 504 in the server's place.
                self.pulse.heard()
            if response.status < 300:
                return response
            try:
                with _translated(method, path):
                    body = await _read(response, 64 * 1024)
            finally:
                response.close()
            if response.status != 401 or is_second or self.access.token is None:
                break
        raise error_of(response.status, body, response.headers.get("Retry-After"))

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None,
        value: object,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Accept-Encoding": "identity", **self._credentials.headers}
        if value is not None:
            headers["Content-Type"] = content_type
        return await self._sessions().request(
            method,
            self.access.server + path,
            params={name: text for name, text in (query or {}).items() if text},
            data=msgspec.json.encode(value) if value is not None else None,
            headers=headers,
            ssl=self._credentials.tls,
            server_hostname=self.access.server_name,
            timeout=timeout,
            allow_redirects=False,
        )

    def _sessions(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, socket_factory=_kept_alive)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent},
                auto_decompress=False,
            )
        return self._session


def complete(resource: Resource, value: Any) -> Object:
    """An item of a list with what lists leave out. Raises ApiError for what is no object."""
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict) or "name" not in value["metadata"]:
        raise ApiError(0, "Malformed", f"an item in a list of {resource} is no object")
    value.setdefault("apiVersion", resource.api_version)
    value.setdefault("kind", resource.kind)
    return value


def _kept_alive(address: Any) -> socket.socket:
    """A socket that finds out within some ten seconds that its peer is gone: a silent watch has no other way."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 10), ("TCP_USER_TIMEOUT", 13_000)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _break_off(response: aiohttp.ClientResponse) -> None:
    """End an answer that has not ended, and its connection, at once: TLS' farewell would wait for the server's, unseen
    by `close`, and a server that does not answer may be why we go."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            raise ApiError(0, "TooLarge", f"the answer has more than {limit:,} bytes")
    return bytes(pieces)


@contextmanager
def _translated(method: str, path: str) -> Iterator[None]:
    """The libraries' exceptions as ApiError."""
    try:
        yield
    except TimeoutError as error:
        raise ApiError(0, "Timeout", f"{method} {path} took too long") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(0, "Unreachable", f"{method} {path}: {str(error)[:200] or type(error).__name__}") from error
