"""The controller against an API server in the test's own loop."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from stellwerk.control.gateway.resources import (
    CLUSTER_ROLE_BINDINGS,
    CONFIG_MAPS,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    REFERENCE_GRANTS,
    ROLES,
)
from stellwerk.control.kube.resource import (
    DEPLOYMENTS,
    MODELS,
    NAMESPACES,
    POOLS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
)
from stellwerk.edge.kube.controller import Controller, Settings
from stellwerk.edge.kube.lease import Election, LeasePace
from stellwerk.edge.kube.status import StatusCounts
from stellwerk.edge.kube.workloads import WorkloadCounts
from tests.kit.controller_objects import (
    config_map,
    gateway,
    gateway_class,
    http_route,
    inference_model,
    inference_pool,
    listener,
    reference_grant,
)
from tests.kit.kube_api import KubeApi
from tests.kit.loop import on_loop, until

QUICK = Settings(settle_seconds=0.005, retry_seconds=0.02, retry_limit_seconds=0.1)
NAME = ("infra", "front-ours")


class Server(KubeApi):
    """Also makes what is applied and was not there, and counts what is written."""

    refused = ""
    """Writes to paths with this in them are refused."""

    def _object(
        self, request: web.Request, resource: Resource, kind: str, key: tuple[str, str], subresource: str, body: Any
    ) -> web.Response:
        if self.refused and request.method != "GET" and self.refused in request.path:
            return web.json_response({"kind": "Status", "reason": "Forbidden", "message": "no"}, status=403)
        is_apply = request.content_type.startswith("application/apply-patch")
        if is_apply and key not in self._objects.get(kind, {}):
            return web.json_response(self._store(resource, key, body), status=201)
        return super()._object(request, resource, kind, key, subresource, body)

    @property
    def writes(self) -> list[str]:
        """Paths of all writes so far, but for leases."""
        return [path for method, path, _ in self.requests if method != "GET" and "/leases" not in path]

    def status(self, resource: Resource, namespace: str, name: str) -> Object:
        """Of an object; empty: none."""
        found = self.objects(resource).get((namespace, name), {})
        status: Object = found.get("status", {})
        return status

    def condition(self, resource: Resource, namespace: str, name: str, kind: str) -> str:
        """Reason of a condition, of the first parent where there are parents."""
        status = self.status(resource, namespace, name)
        conditions = (status.get("parents") or [status])[0].get("conditions", [])
        return next((one["reason"] for one in conditions if one["type"] == kind), "")

    def run_pods(self, ready: int = 1) -> None:
        """What a kubelet and a load balancer would do."""
        deployment, service = self.objects(DEPLOYMENTS)[NAME], self.objects(SERVICES)[NAME]
        self.put(DEPLOYMENTS, {**deployment, "status": {"readyReplicas": ready}})
        ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        self.put(SERVICES, {**service, "status": ingress})


@asynccontextmanager
async def controlled(
    *objects: tuple[Resource, Object], settings: Settings = QUICK
) -> AsyncIterator[tuple[Server, Controller]]:
    """A server with `objects`, and a controller that has looked at them once."""
    api = Server()
    await api.start()
    for resource, value in objects:
        api.put(resource, value)
    try:
        async with running(api, settings) as controller:
            await until(lambda: not list(controller.unready()) and controller.counts.rounds)
            yield api, controller
    finally:
        await api.stop()


@asynccontextmanager
async def running(api: Server, settings: Settings = QUICK, identity: str | None = None) -> AsyncIterator[Controller]:
    client = api.client()
    pace = LeasePace(lease_seconds=1, deadline_seconds=0.5, retry_seconds=0.05)
    election = Election(client, "controller", "infra", identity, pace) if identity else None
    controller = Controller(client, settings, election)
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


def whole() -> list[tuple[Resource, Object]]:
    return [
        (GATEWAY_CLASSES, gateway_class()),
        (GATEWAYS, gateway()),
        (HTTP_ROUTES, http_route()),
        (POOLS, inference_pool()),
    ]


async def still(controller: Controller) -> None:
    """Until nothing has moved for a while."""
    last = -1
    while controller.counts.rounds != last:
        last = controller.counts.rounds
        await asyncio.sleep(0.15)


@on_loop
async def test_a_gateway_is_served_told_and_programmed_once_a_pod_is_ready() -> None:
    async with controlled(*whole()) as (api, _):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await until(lambda: api.condition(GATEWAYS, "infra", "front", "Programmed") == "AddressNotAssigned")
        api.run_pods()
        await until(lambda: api.condition(GATEWAYS, "infra", "front", "Programmed") == "Programmed")
        assert api.status(GATEWAYS, "infra", "front")["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]
        assert api.condition(GATEWAY_CLASSES, "", "ours", "Accepted") == "Accepted"
        assert api.condition(HTTP_ROUTES, "apps", "route", "Accepted") == "Accepted"
        assert api.condition(POOLS, "apps", "pool", "ResolvedRefs") == "ResolvedRefs"
        (binding,) = api.objects(CLUSTER_ROLE_BINDINGS).values()
        assert binding["subjects"] == [{"kind": "ServiceAccount", "namespace": "infra", "name": "front-ours"}]


@on_loop
async def test_when_nothing_changes_nothing_is_written_not_even_by_a_new_leader() -> None:
    async with controlled(*whole()) as (api, controller):
        await still(controller)
        api.run_pods()
        await still(controller)
        before = api.writes
        api.put(NAMESPACES, {"metadata": {"name": "infra", "labels": {"a": "b"}}})
        await still(controller)
        async with running(api) as second:
            await until(lambda: second.counts.rounds and not list(second.unready()))
            await still(second)
        assert api.writes == before


@on_loop
async def test_a_status_that_somebody_writes_to_at_the_same_time_ends_up_with_both_parts() -> None:
    async with controlled(*whole()) as (api, controller):
        for index in range(30):
            route = api.objects(HTTP_ROUTES)["apps", "route"]
            entry = {"parentRef": {"name": f"x{index}"}, "controllerName": "example.com/other", "conditions": []}
            ours = [
                one for one in (route.get("status") or {}).get("parents", []) if "stellwerk" in one["controllerName"]
            ]
            status = {"parents": [*ours, entry] if index % 2 else [entry]}
            api.put(HTTP_ROUTES, {**route, "status": status})
            await asyncio.sleep(0.003)
        await still(controller)
        names = [one["controllerName"] for one in api.status(HTTP_ROUTES, "apps", "route")["parents"]]
        assert sorted(names) == ["example.com/other", "stellwerk.dev/gateway-controller"]


@on_loop
async def test_what_others_change_of_ours_is_put_back_and_the_rest_is_theirs() -> None:
    async with controlled(*whole()) as (api, controller):
        await still(controller)
        service, deployment = api.objects(SERVICES)[NAME], api.objects(DEPLOYMENTS)[NAME]
        api.put(
            SERVICES, {**service, "spec": {**service["spec"], "selector": {"app": "mine"}, "clusterIP": "10.0.0.9"}}
        )
        api.put(DEPLOYMENTS, {**deployment, "spec": {**deployment["spec"], "replicas": 4}})
        await until(lambda: api.objects(SERVICES)[NAME]["spec"]["selector"] != {"app": "mine"})
        await still(controller)
        assert api.objects(SERVICES)[NAME]["spec"]["clusterIP"] == "10.0.0.9"
        assert api.objects(DEPLOYMENTS)[NAME]["spec"]["replicas"] == 4


@on_loop
async def test_a_write_that_fails_is_tried_again_until_it_succeeds() -> None:
    async with controlled(*whole()[:1]) as (api, controller):
        await still(controller)
        for resource, value in whole()[1:]:
            api.put(resource, value)
        api.lies.status = 503
        await asyncio.sleep(0.1)
        assert not api.objects(DEPLOYMENTS)
        api.lies.status = 0
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await until(lambda: api.condition(HTTP_ROUTES, "apps", "route", "Accepted") == "Accepted")
        await still(controller)
        assert not list(controller.remarks())


@on_loop
async def test_parameters_are_read_from_the_config_map_that_is_named_and_followed() -> None:
    reference = {"parametersRef": {"group": "", "kind": "ConfigMap", "name": "parameters"}}
    objects = [(GATEWAY_CLASSES, gateway_class()), (GATEWAYS, gateway(infrastructure=reference))]
    async with controlled(*objects) as (api, controller):
        await until(lambda: api.condition(GATEWAYS, "infra", "front", "Accepted") == "InvalidParameters")
        assert not api.objects(DEPLOYMENTS)
        api.put(CONFIG_MAPS, config_map({"replicas": "2"}))
        await until(lambda: api.objects(DEPLOYMENTS).get(NAME, {}).get("spec", {}).get("replicas") == 2)
        assert api.condition(GATEWAYS, "infra", "front", "Accepted") == "Accepted"
        api.put(CONFIG_MAPS, config_map({"replica": "3"}))
        await until(lambda: api.condition(GATEWAYS, "infra", "front", "Accepted") == "InvalidParameters")
        await still(controller)
        assert api.objects(DEPLOYMENTS)[NAME]["spec"]["replicas"] == 2, "pods that serve go on serving"


@on_loop
async def test_only_secrets_that_listeners_name_are_asked_for() -> None:
    references = [{"name": "own"}, {"name": "far", "namespace": "certs"}]
    https = listener("https", 443, "HTTPS", tls={"certificateRefs": references})
    objects = [
        (GATEWAY_CLASSES, gateway_class()),
        (GATEWAYS, gateway(listeners=[listener(), https])),
        (REFERENCE_GRANTS, reference_grant("Gateway", "Secret", "certs", "infra")),
        *((SECRETS, secret(name, place)) for name, place in (("own", "infra"), ("far", "certs"), ("other", "infra"))),
    ]
    async with controlled(*objects) as (api, controller):
        await until(lambda: ("certs", "infra-front-ours-secrets") in api.objects(ROLES))
        asked = [query for _, path, query in api.requests if path.endswith("/secrets")]
        assert asked
        assert all("fieldSelector=metadata.name" in query for query in asked)
        assert set(controller.copies.objects(SECRETS)) == {("infra", "own"), ("certs", "far")}
        api.remove(REFERENCE_GRANTS, "certs", "grant")
        await until(lambda: ("certs", "infra-front-ours-secrets") not in api.objects(ROLES))
        assert set(controller.copies.objects(SECRETS)) == {("infra", "own")}


def secret(name: str, namespace: str) -> Object:
    data = {key: base64.b64encode(b"x").decode() for key in ("tls.crt", "tls.key")}
    return {"metadata": {"name": name, "namespace": namespace}, "type": "kubernetes.io/tls", "data": data}


@on_loop
async def test_a_gateway_that_goes_takes_its_objects_along_but_a_class_that_goes_does_not() -> None:
    async with controlled(*whole()) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        api.remove(GATEWAY_CLASSES, "", "ours")
        await still(controller)
        assert NAME in api.objects(DEPLOYMENTS)
        api.put(GATEWAY_CLASSES, gateway_class(controller="example.com/other"))
        await until(lambda: NAME not in api.objects(DEPLOYMENTS))
        api.put(GATEWAY_CLASSES, gateway_class())
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        api.remove(GATEWAYS, "infra", "front")
        await until(lambda: NAME not in api.objects(DEPLOYMENTS))
        await until(lambda: api.status(HTTP_ROUTES, "apps", "route")["parents"] == [])
        await until(lambda: not next(iter(api.objects(CLUSTER_ROLE_BINDINGS).values()))["subjects"])


@on_loop
async def test_what_nobody_marked_as_a_gateways_is_never_deleted() -> None:
    ours = {"app.kubernetes.io/managed-by": "stellwerk-controller"}
    stranger = {"metadata": {"name": "s", "namespace": "infra", "labels": ours}, "spec": {}}
    async with controlled(*whole(), (DEPLOYMENTS, stranger)) as (api, controller):
        await still(controller)
        assert ("infra", "s") in api.objects(DEPLOYMENTS)


@on_loop
async def test_models_get_their_conditions_and_the_next_in_line_takes_a_free_name() -> None:
    first = inference_model("first", creationTimestamp="2026-01-01T00:00:00Z")
    second = inference_model("second", creationTimestamp="2026-01-02T00:00:00Z")
    async with controlled((MODELS, second), (MODELS, first), *whole()) as (api, _):
        await until(lambda: api.condition(MODELS, "apps", "second", "Accepted") == "ModelNameInUse")
        assert api.condition(MODELS, "apps", "first", "Accepted") == "Accepted"
        api.remove(MODELS, "apps", "first")
        await until(lambda: api.condition(MODELS, "apps", "second", "Accepted") == "Accepted")
        api.remove(POOLS, "apps", "pool")
        await until(lambda: api.condition(MODELS, "apps", "second", "Accepted") == "Pending")


@on_loop
async def test_only_the_leader_writes_and_another_takes_over() -> None:
    api = Server()
    await api.start()
    try:
        async with running(api, identity="b") as second:
            async with running(api, identity="a") as first:
                await until(lambda: first.is_leader or second.is_leader)
                await until(lambda: not list(first.unready()) and not list(second.unready()))
                standby = first if second.is_leader else second
                api.put(*whole()[0])
                await until(lambda: api.condition(GATEWAY_CLASSES, "", "ours", "Accepted") == "Accepted")
                await still(standby)
                assert standby.statuses.counts == StatusCounts(), "not even an attempt"
                assert standby.workloads.counts == WorkloadCounts()
            await until(lambda: second.is_leader)
            for resource, value in whole()[1:]:
                api.put(resource, value)
            await until(lambda: NAME in api.objects(DEPLOYMENTS))
    finally:
        await api.stop()


@on_loop
async def test_an_object_that_cannot_be_read_is_told_of_and_stops_nobody() -> None:
    broken = {**gateway("broken"), "spec": {"gatewayClassName": "ours", "listeners": 3}}
    async with controlled(*whole(), (GATEWAYS, broken)) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        assert any("Gateway infra/broken" in remark for remark in controller.remarks())


@on_loop
async def test_a_controller_of_one_namespace_asks_for_nothing_elsewhere() -> None:
    settings = Settings(namespaces=("infra",), settle_seconds=0.005)
    async with controlled(*whole(), settings=settings) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        paths = {path for method, path, _ in api.requests if method == "GET"}
        wide = {path for path in paths if "/namespaces/" not in path}
        assert wide <= {
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
            "/api/v1/namespaces",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        }
        await still(controller)
        assert not api.status(HTTP_ROUTES, "apps", "route")
        (container,) = api.objects(DEPLOYMENTS)[NAME]["spec"]["template"]["spec"]["containers"]
        arguments = container["args"]
        assert arguments[arguments.index("--namespace") + 1] == "infra", "where its pods have rights"
        assert arguments[arguments.index("--controller-name") + 1] == settings.controller


@on_loop
async def test_what_cannot_be_written_is_told_of_tried_now_and_then_and_holds_up_nobody() -> None:
    patient = Settings(settle_seconds=0.005, retry_seconds=0.3, retry_limit_seconds=0.6)
    async with controlled(*whole()[:1], settings=patient) as (api, controller):
        api.refused = "/deployments/"
        for resource, value in whole()[1:]:
            api.put(resource, value)
        await until(lambda: controller.workloads.errors)
        before = len([path for path in api.writes if "/deployments/" in path])
        for index in range(40):
            api.put(NAMESPACES, {"metadata": {"name": "infra", "labels": {"a": str(index)}}})
            await asyncio.sleep(0.01)
        assert len([path for path in api.writes if "/deployments/" in path]) <= before + 3
        assert any("Deployment infra/front-ours" in remark for remark in controller.remarks())
        await until(lambda: api.condition(HTTP_ROUTES, "apps", "route", "Accepted") == "Accepted")
        api.refused = ""
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await until(lambda: not list(controller.remarks()))
