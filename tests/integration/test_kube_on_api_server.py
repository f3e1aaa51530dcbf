"""Following a real API server: pools, Pods and policies, its absence, its rights, leases and statuses."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stellwerk.blueprint import Source, build, draft
from stellwerk.control.kube.resource import MODELS, NAMESPACES, OBJECTIVES, OLD_POOLS, PODS, POOLS, REWRITES, Resource
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.lease import Election, LeasePace
from stellwerk.edge.kube.reviews import AccessReviewer, Verdict
from stellwerk.edge.kube.source import KubeSource, Scope
from stellwerk.edge.kube.status import StatusWriter
from tests.kit.api_server import ApiServer
from tests.kit.kube_api import pod
from tests.kit.loop import on_loop, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
_numbers = iter(range(10**6))
Object = dict[str, Any]


class Door:
    """A TCP proxy in front of the server that can be shut: connections break, and new ones are refused."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Break off all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # the loop closes aborted sockets in its next rounds

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, inner_writer}
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            self._writers -= {writer, inner_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def kubeconfig(server: ApiServer, path: Path, port: int | None = None) -> str:
    """The administrator's, to another port of this machine."""
    config = json.loads(server.kubeconfig.read_text())
    if port is not None:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = path / "kubeconfig"
    file.write_text(json.dumps(config))
    return str(file)


@pytest.fixture
def home(api_server: ApiServer, tmp_path: Path) -> tuple[ApiServer, str, Path]:
    """The server, a namespace of the test's own, and a directory."""
    namespace = f"kube-{next(_numbers)}-{time.time_ns() % 10**6}"
    api_server.api.call("POST", NAMESPACES.path(), {"metadata": {"name": namespace}})
    return api_server, namespace, tmp_path


@asynccontextmanager
async def connected(config: str) -> AsyncIterator[KubeClient]:
    """A client that is closed again."""
    client = KubeClient.from_environment(config)
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0.05)  # the loop closes broken sockets in its next rounds


@asynccontextmanager
async def running(source: KubeSource) -> AsyncIterator[KubeSource]:
    """Loaded, and following."""
    await source.load()
    task = asyncio.create_task(source.run(lambda blueprint: None))
    try:
        yield source
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put_pod(client: KubeClient, namespace: str, name: str, address: str, **more: Any) -> Object:
    """A Pod that nobody runs, with a status as a kubelet writes it."""
    value = pod(name, address, namespace=namespace, **more)
    value["metadata"].pop("managedFields")
    value["spec"]["nodeName"] = "nowhere"
    made = await client.create(PODS, value)
    return await client.patch(PODS, name, {"status": value["status"]}, namespace, subresource="status") or made


async def delete_pod(client: KubeClient, namespace: str, name: str) -> None:
    """At once: there is no kubelet to confirm."""
    await client.call("DELETE", PODS.path(namespace, name), {"gracePeriodSeconds": 0})


def pool(namespace: str, app: str = "llama", port: int = 8000) -> Object:
    """An InferencePool v1."""
    picker = {"name": "epp", "port": {"number": 9002}}
    spec = {"selector": {"matchLabels": {"app": app}}, "targetPorts": [{"number": port}], "endpointPickerRef": picker}
    return _object(POOLS, namespace, "llama", spec)


def _object(resource: Resource, namespace: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def keys(source: KubeSource) -> list[str]:
    """Names and ports of all endpoints."""
    pools = source.current.catalog.pools.values()
    return sorted(endpoint.key.partition("/")[2] for pool in pools for endpoint in pool.endpoints)


def test_pods_selectors_and_ports_are_followed(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            made = await client.create(POOLS, pool(namespace))
            await put_pod(client, namespace, "a", "10.0.0.1")
            await put_pod(client, namespace, "b", "10.0.0.2", labels={"app": "new"})
            async with running(KubeSource(client, Scope.of_pool(namespace, "llama"))) as source:
                assert keys(source) == ["a:8000"]
                await put_pod(client, namespace, "c", "10.0.0.3")
                await until(lambda: keys(source) == ["a:8000", "c:8000"])
                await client.call("DELETE", PODS.path(namespace, "a"), {"gracePeriodSeconds": 30})
                await until(lambda: keys(source) == ["c:8000"])
                await delete_pod(client, namespace, "c")
                await until(lambda: keys(source) == [])
                patch = {"spec": {"selector": {"matchLabels": {"app": "new"}}, "targetPorts": [{"number": 9000}]}}
                await client.patch(POOLS, "llama", patch, namespace)
                await until(lambda: keys(source) == ["b:9000"])
                assert source.status.age_seconds == 0.0
                assert source.status.problems == ()
                await client.delete(POOLS, "llama", namespace, uid=made["metadata"]["uid"])
                await until(lambda: not source.current.catalog.pools)

    story()


def test_the_same_objects_from_files_and_from_the_server_are_the_same_catalog(
    home: tuple[ApiServer, str, Path],
) -> None:
    server, namespace, path = home
    reference = {"poolRef": {"name": "llama"}}
    written = [
        pool(namespace),
        _object(MODELS, namespace, "m1", {"modelName": "chat", "criticality": "Critical", **reference}),
        _object(MODELS, namespace, "m2", {"modelName": "chat", **reference}),
        _object(OBJECTIVES, namespace, "low", {"priority": -1, **reference}),
        _object(REWRITES, namespace, "r", {"rules": [{"targets": [{"modelRewrite": "base"}]}], **reference}),
    ]
    old = {"selector": {"app": "llama"}, "targetPortNumber": 9000, "extensionRef": {"name": "epp"}}
    written.append(_object(OLD_POOLS, namespace, "older", old))

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            resources = (POOLS, MODELS, MODELS, OBJECTIVES, REWRITES, OLD_POOLS)
            made = [await client.create(kind, value) for kind, value in zip(resources, written, strict=True)]
            pods = [await put_pod(client, namespace, f"p{number}", f"10.0.0.{number + 1}") for number in range(3)]
            made += [_server_of(value) for value in pods]
            chosen = frozenset({(namespace, "llama"), (namespace, "older")})
            async with running(KubeSource(client, Scope(namespace, chosen))) as source:
                text = "\n---\n".join(json.dumps(value) for value in made)
                drawn = draft([Source("all.yaml", text.encode())])
                assert drawn.problems == ()
                from_files = build(drawn, {}).catalog
                assert len(from_files.pools) == 2
                assert len(from_files.models) == 1
                assert replace(source.current.catalog, generation=0) == replace(from_files, generation=0)

    story()


def _server_of(made: Object) -> Object:
    """The ModelServer that says what a Pod says."""
    metadata = {name: part for name, part in made["metadata"].items() if name != "managedFields"}
    spec = {"address": made["status"]["podIP"]}
    return {"apiVersion": "stellwerk.dev/v1alpha1", "kind": "ModelServer", "metadata": metadata, "spec": spec}


def test_a_server_that_was_away_is_caught_up_with_soon(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home

    @on_loop
    async def story() -> None:
        door = Door(server._port)
        await door.open()
        async with connected(kubeconfig(server, path)) as admin:
            await admin.create(POOLS, pool(namespace))
            await put_pod(admin, namespace, "a", "10.0.0.1")
            (path / "through").mkdir()
            config = kubeconfig(server, path / "through", door.port)
            async with (
                connected(config) as client,
                running(KubeSource(client, Scope.of_pool(namespace, "llama"))) as it,
            ):
                await until(lambda: it.status.age_seconds == 0.0)
                await door.shut()
                await delete_pod(admin, namespace, "a")
                await put_pod(admin, namespace, "b", "10.0.0.2")
                await until(lambda: it.status.age_seconds > 3.0)
                assert keys(it) == ["a:8000"]
                assert it.status.problems
                await door.open()
                await until(lambda: keys(it) == ["b:8000"], 30)
                await until(lambda: it.status.age_seconds == 0.0)
                assert it.status.problems == ()
        await door.shut()

    story()


def test_a_server_that_was_restarted_is_caught_up_with(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            await client.create(POOLS, pool(namespace))
            await put_pod(client, namespace, "a", "10.0.0.1")
            await client.create(OBJECTIVES, _object(OBJECTIVES, namespace, "o", {"poolRef": {"name": "llama"}}))
            source = KubeSource(client, Scope.of_pool(namespace, "llama"))
            seen: list[tuple[int, int]] = []
            await source.load()

            def applied(blueprint: Any) -> None:
                (found,) = blueprint.catalog.pools.values()
                seen.append((len(found.endpoints), len(found.objectives)))

            task = asyncio.create_task(source.run(applied))
            await asyncio.to_thread(server.stop)
            await until(lambda: source.status.age_seconds > 0.5)
            await asyncio.to_thread(server.start)
            await until(lambda: source.status.age_seconds == 0.0, 60)
            await put_pod(client, namespace, "b", "10.0.0.2")
            await until(lambda: keys(source) == ["a:8000", "b:8000"], 30)
            assert all(endpoints and objectives for endpoints, objectives in seen)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    story()


def test_readers_of_metrics_are_known_by_their_rights(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": namespace}}
    rules = [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    binding = {**role, "kind": "ClusterRoleBinding"}
    subject = {"kind": "Group", "name": "scrapers", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": namespace, "apiGroup": "rbac.authorization.k8s.io"}
    prefix = "/apis/rbac.authorization.k8s.io/v1"
    server.api.call("POST", f"{prefix}/clusterroles", {**role, "rules": rules})
    server.api.call("POST", f"{prefix}/clusterrolebindings", {**binding, "subjects": [subject], "roleRef": reference})

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            reviewer = AccessReviewer(client)
            scraper, stranger = server.user("scraper"), server.user("stranger")
            assert await reviewer.review(f"Bearer {scraper}", "/metrics") is Verdict.ALLOWED
            assert await reviewer.review(f"Bearer {stranger}", "/metrics") is Verdict.FORBIDDEN
            assert await reviewer.review("Bearer nobody", "/metrics") is Verdict.UNAUTHENTICATED

    story()


def test_leadership_changes_hands(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home
    pace = LeasePace(lease_seconds=2, deadline_seconds=1.5, retry_seconds=0.2)

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            elections = [Election(client, "epp", namespace, name, pace) for name in ("one", "two", "three")]
            tasks = [asyncio.create_task(election.run(lambda: None)) for election in elections]
            for _ in range(3):
                await until(lambda: sum(election.is_leader for election in elections) == 1)
                (leader,) = [index for index, election in enumerate(elections) if election.is_leader]
                tasks[leader].cancel()
                await asyncio.gather(tasks[leader], return_exceptions=True)
                assert not elections[leader].is_leader

    story()


def test_a_status_is_written_beside_what_others_write(home: tuple[ApiServer, str, Path]) -> None:
    server, namespace, path = home

    def parent(name: str) -> Object:
        condition = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        return {"parentRef": {"name": name, "namespace": namespace}, "conditions": [condition]}

    def with_ours(status: Object) -> Object:
        others = [one for one in status.get("parents", []) if one["parentRef"]["name"] != "ours"]
        ours = [one for one in status.get("parents", []) if one["parentRef"]["name"] == "ours"]
        return {**status, "parents": [*others, *(ours or [parent("ours")])]}

    @on_loop
    async def story() -> None:
        async with connected(kubeconfig(server, path)) as client:
            seen = await client.create(POOLS, pool(namespace))
            theirs = {"status": {"parents": [parent("theirs")]}}
            await client.patch(POOLS, "llama", theirs, namespace, subresource="status")
            writer = StatusWriter(client)
            assert await writer.write(POOLS, seen, with_ours)
            now = await client.get(POOLS, "llama", namespace)
            assert [one["parentRef"]["name"] for one in now["status"]["parents"]] == ["theirs", "ours"]
            assert not await writer.write(POOLS, now, with_ours)
            assert (writer.counts.conflicts, writer.counts.written) == (1, 1)

    story()
