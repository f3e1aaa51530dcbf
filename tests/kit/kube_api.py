"""An API server in the test's own event loop: real HTTP, lists in pages, watches with versions, and faults on demand.

It keeps every revision, so a watch from any version since the last `compact` gets what happened. `Lies` say how a
server, a proxy in front of it or a lagging replica may misbehave.
"""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from stellwerk.control.kube.resource import POOLS, Resource
from stellwerk.edge.kube.access import Access, Secret
from stellwerk.edge.kube.client import DEFAULT_LIMITS, ClientLimits, KubeClient
from stellwerk.edge.kube.pulse import DEFAULT_PULSE, PulsePace

Object = dict[str, Any]
Event = tuple[int, str, Object, Object | None]
"""Revision, type, the object after and before."""


@dataclass
class Lies:
    """What goes wrong, until it is set back."""

    status: int = 0
    """Every answer is this error."""
    watch_status: int = 0
    """Every watch is answered by this error."""
    write_status: int = 0
    """Every write is answered by this error."""
    list_lag: int = 0
    """Lists are as of so many revisions ago."""
    hangs: bool = False
    """No answer comes."""
    watch_hangs: bool = False
    """A watch gets no head."""
    spoils_lists: bool = False
    """What a list holds are no objects."""
    garble: Callable[[list[Event]], list[Event]] | None = None
    """What becomes of the events that a watch is about to send."""
    missing: set[str] = field(default_factory=set)
    """Plurals with group that are not installed."""
    silent: set[str] = field(default_factory=set)
    """Plurals with group about which no answer comes."""
    forbidden: set[str] = field(default_factory=set)
    """Plurals with group that nobody may read or write."""
    events_before_drop: int = -1
    """A watch breaks off inside the event after so many; -1: never."""


class KubeApi:
    """One server. `url` after `start`."""

    def __init__(self, port: int = 0) -> None:
        self.revision = 100
        self.lies = Lies()
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and query of everything that was asked."""
        self.tokens: dict[str, Object] = {}
        """Token to the user that it stands for."""
        self.allowed: set[tuple[str, str]] = set()
        """User and path."""
        self.wanted_token: str | None = None
        self._port = port
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._history: dict[str, list[Event]] = {}
        self._compacted: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._watches: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def client(
        self, token: str | None = None, limits: ClientLimits = DEFAULT_LIMITS, pulse: PulsePace = DEFAULT_PULSE
    ) -> KubeClient:
        """A client of this server."""
        secret = Secret(data=token.encode()) if token else None
        return KubeClient(Access(self.url, token=secret), limits, pulse=pulse)

    async def start(self) -> None:
        """Listen; on the same port again after a `stop`."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Gone, with all connections."""
        runner, self._runner = self._runner, None
        self.lies.silent.clear()
        if runner is not None:
            self.drop()
            await runner.cleanup()

    def drop(self) -> None:
        """All watches break off now."""
        for transport in list(self._watches):
            transport.abort()

    # What the world does.

    def put(self, resource: Resource, value: Object) -> Object:
        """Create or change, as of now."""
        kind = self._objects.setdefault(str(resource), {})
        metadata = value["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        before = kind.get(key)
        self.revision += 1
        made = copy.deepcopy(value)
        made |= {"apiVersion": resource.api_version, "kind": resource.kind}
        uid = before["metadata"]["uid"] if before else f"uid-{self.revision}"
        made["metadata"].setdefault("uid", uid)
        made["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        made["metadata"]["resourceVersion"] = str(self.revision)
        kind[key] = made
        self._happened(resource, "MODIFIED" if before else "ADDED", made, before)
        return copy.deepcopy(made)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete, as of now; nothing happens if it is not there."""
        before = self._objects.get(str(resource), {}).pop((namespace, name), None)
        if before is not None:
            self.revision += 1
            last = copy.deepcopy(before)
            last["metadata"]["resourceVersion"] = str(self.revision)
            self._happened(resource, "DELETED", last, before)

    def objects(self, resource: Resource) -> dict[tuple[str, str], Object]:
        """What there is."""
        return dict(self._objects.get(str(resource), {}))

    def compact(self) -> None:
        """Forget the past: watches from there are answered by 410."""
        for kind in self._history:
            self._compacted[kind] = self.revision

    def bump(self) -> None:
        """Something happened to other kinds."""
        self.revision += 1
        self._wake()

    def _happened(self, resource: Resource, kind: str, after: Object, before: Object | None) -> None:
        self._history.setdefault(str(resource), []).append((self.revision, kind, after, before))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # What is asked.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, request.query_string))
        lies = self.lies
        while lies.hangs:  # noqa: ASYNC110 - a test sets it back
            await asyncio.sleep(0.01)
        if self.wanted_token and request.headers.get("Authorization") != f"Bearer {self.wanted_token}":
            return _status(401, "Unauthorized")
        if lies.status or (lies.write_status and request.method != "GET"):
            return _status(lies.status or lies.write_status)
        if request.path == "/readyz":
            return web.Response(text="ok")
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        kind = f"{rest[0]}.{group}" if group else rest[0]
        while kind in lies.silent:  # noqa: ASYNC110 - a test sets it back
            await asyncio.sleep(0.01)
        if kind in lies.forbidden:
            return _status(403, "Forbidden")
        if kind in lies.missing:
            return _status(404, "NotFound")
        if kind.startswith(("tokenreviews", "subjectaccessreviews")):
            return self._review(kind, await request.json())
        name, subresource = (rest[1] if len(rest) > 1 else ""), (rest[2] if len(rest) > 2 else "")
        api_version = "/".join(parts[1:3]) if group else "v1"
        resource = Resource(group, api_version.rpartition("/")[2], rest[0], "", bool(namespace))
        if request.method == "GET" and not name:
            if request.query.get("watch"):
                return await self._watch(request, kind, namespace)
            return self._list(request, kind, namespace)
        body = json.loads(await request.read() or b"null")
        return self._object(request, resource, kind, (namespace, name), subresource, body)

    def _list(self, request: web.Request, kind: str, namespace: str) -> web.Response:
        query = request.query
        now = self.revision - self.lies.list_lag
        start = 0
        if "continue" in query:
            version, _, index = query["continue"].partition(":")
            now, start = int(version), int(index)
            if now < self._compacted.get(kind, 0):
                return _status(410, "Expired")
        found = [value for value in self._as_of(kind, now) if _is_wanted(value, query, namespace)]
        limit = int(query.get("limit", "0")) or len(found) or 1
        page = found[start : start + limit]
        metadata = {"resourceVersion": str(now)}
        if start + limit < len(found):
            metadata["continue"] = f"{now}:{start + limit}"
        items = [{name: part for name, part in value.items() if name not in ("apiVersion", "kind")} for value in page]
        if self.lies.spoils_lists:
            items = [{}]
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    def _as_of(self, kind: str, revision: int) -> list[Object]:
        state: dict[tuple[str, str], Object] = {}
        for at, event, after, _ in self._history.get(kind, []):
            if at > revision:
                break
            key = (after["metadata"].get("namespace", ""), after["metadata"]["name"])
            if event == "DELETED":
                state.pop(key, None)
            else:
                state[key] = after
        return [state[key] for key in sorted(state)]

    async def _watch(self, request: web.Request, kind: str, namespace: str) -> web.StreamResponse:
        while self.lies.watch_hangs:  # noqa: ASYNC110 - a test sets it back
            await asyncio.sleep(0.01)
        if self.lies.watch_status:
            return _status(self.lies.watch_status)
        at = int(request.query.get("resourceVersion") or self.revision)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        # uvloop's transports do not derive from asyncio.Transport.
        transport = cast(asyncio.Transport, request.transport)
        self._watches.add(transport)
        ends = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds", "60"))
        try:
            if at < self._compacted.get(kind, 0):
                await response.write(
                    _line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": ""})
                )
                return response
            while asyncio.get_running_loop().time() < ends and not transport.is_closing():
                changed = self._changed
                upto, events = self.revision, [one for one in self._history.get(kind, []) if one[0] > at]
                if self.lies.garble is not None:
                    events = self.lies.garble(events)
                for event in events:
                    if not await self._send(response, event, request.query, namespace, transport):
                        return response
                if upto > at:
                    await response.write(_line("BOOKMARK", {"metadata": {"resourceVersion": str(upto)}}))
                at = upto
                if changed is self._changed and self.revision == upto:
                    await _set_within(changed, min(0.05, max(0.0, ends - asyncio.get_running_loop().time())))
        except ConnectionError:
            pass
        finally:
            self._watches.discard(transport)
        return response

    async def _send(
        self, response: web.StreamResponse, event: Event, query: Any, namespace: str, transport: asyncio.Transport
    ) -> bool:
        """False if the connection ends here."""
        _, kind, after, before = event
        was = before is not None and _is_wanted(before, query, namespace)
        now = kind != "DELETED" and _is_wanted(after, query, namespace)
        if not was and not now:
            return True
        line = _line("MODIFIED" if was and now else "ADDED" if now else "DELETED", after)
        lies = self.lies
        if lies.events_before_drop == 0:
            await response.write(line[: len(line) // 2])
            lies.events_before_drop = -1
            transport.close()
            return False
        if lies.events_before_drop > 0:
            lies.events_before_drop -= 1
        await response.write(line)
        return True

    def _object(
        self,
        request: web.Request,
        resource: Resource,
        kind: str,
        key: tuple[str, str],
        subresource: str,
        body: Any,
    ) -> web.Response:
        held = self._objects.get(kind, {}).get(key)
        if request.method == "POST":
            key = (key[0], body["metadata"]["name"])
            if key in self._objects.get(kind, {}):
                return _status(409, "AlreadyExists")
            return web.json_response(self._store(resource, key, body), status=201)
        if held is None:
            return _status(404, "NotFound")
        if request.method == "GET":
            return web.json_response(held)
        if request.method == "DELETE":
            self.remove(resource, *key)
            return web.json_response({"kind": "Status", "status": "Success"})
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version is not None and version != held["metadata"]["resourceVersion"]:
            return _status(409, "Conflict")
        new = merged(held, body) if request.method == "PATCH" else body
        if subresource == "status":
            new = {**held, "status": new.get("status", {})}
        return web.json_response(self._store(resource, key, new))

    def _store(self, resource: Resource, key: tuple[str, str], value: Object) -> Object:
        named = Resource(resource.group, resource.version, resource.plural, value.get("kind", ""), resource.namespaced)
        if key[0]:
            value["metadata"]["namespace"] = key[0]
        return self.put(named, value)

    def _review(self, kind: str, body: Object) -> web.Response:
        spec = body["spec"]
        if kind.startswith("tokenreviews"):
            user = self.tokens.get(spec["token"])
            status: Object = {"authenticated": user is not None, "user": user or {}}
        else:
            status = {"allowed": (spec["user"], spec["nonResourceAttributes"]["path"]) in self.allowed}
        return web.json_response({**body, "status": status}, status=201)


@asynccontextmanager
async def kube_api() -> AsyncIterator[KubeApi]:
    """A server that is started and stopped."""
    api = KubeApi()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


def _is_wanted(value: Object, query: Any, namespace: str) -> bool:
    metadata = value["metadata"]
    if namespace and metadata.get("namespace") != namespace:
        return False
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, _, text = part.partition("=")
        if metadata.get("labels", {}).get(name) != text:
            return False
    wanted = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return not wanted or metadata["name"] == wanted


def merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for name, part in patch.items():
        if part is None:
            base.pop(name, None)
        else:
            base[name] = merged(base.get(name), part)
    return base


def _line(kind: str, value: Object) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


def _status(code: int, reason: str = "") -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": "as told"}, status=code)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def pool(name: str, labels: dict[str, str], ports: Iterable[int] = (8000,)) -> Object:
    """An InferencePool v1."""
    return {
        "apiVersion": POOLS.api_version,
        "kind": POOLS.kind,
        "metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"matchLabels": labels}, "targetPorts": [{"number": port} for port in ports]},
    }


def pod(
    name: str,
    address: str | None = "10.0.0.1",
    labels: dict[str, str] | None = None,
    *,
    namespace: str = "default",
    is_ready: bool = True,
    uid: str | None = None,
    annotations: dict[str, str] | None = None,
    is_terminating: bool = False,
) -> Object:
    """A Pod as an API server sends it, with some of the bulk."""
    metadata: Object = {"name": name, "namespace": namespace, "labels": labels or {"app": "llama"}}
    metadata["managedFields"] = [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]
    if annotations:
        metadata["annotations"] = annotations
    if uid:
        metadata["uid"] = uid
    if is_terminating:
        metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(is_ready)}]
    status: Object = {"phase": "Running", "conditions": conditions}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    spec = {"containers": [{"name": "server", "image": "vllm"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
