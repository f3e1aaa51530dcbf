"""The controller against an API server in the test's own loop."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from stellwerk.control.gateway.plan import Plan, plan
from stellwerk.control.gateway.resources import (
    CLUSTER_ROLE_BINDINGS,
    CONFIG_MAPS,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    MANAGED_BY,
    REFERENCE_GRANTS,
    ROLE_BINDINGS,
    ROLES,
    WORKLOAD,
)
from stellwerk.control.gateway.world import World
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
from stellwerk.edge.kube import controller as module
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
from tests.kit.gateway_objects import certificate, tls_secret
from tests.kit.kube_api import KubeApi
from tests.kit.loop import on_loop, until

QUICK = Settings(settle_seconds=0.005, retry_seconds=0.02, retry_limit_seconds=0.1)
PATIENT = Settings(settle_seconds=0.005, retry_seconds=0.4, retry_limit_seconds=0.6)
"""So that it is still between two tries."""
FRONT = ("infra", "front")
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
async def test_a_pickers_configuration_is_checked_told_of_and_given_to_the_pods() -> None:
    reference = {"parametersRef": {"group": "", "kind": "ConfigMap", "name": "parameters"}}
    objects = [(GATEWAY_CLASSES, gateway_class()), (GATEWAYS, gateway(infrastructure=reference))]
    wrong = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- {type: queue-scorre}\n"
    async with controlled(*objects, (CONFIG_MAPS, config_map({"pickerConfig": wrong}))) as (api, _):
        await until(lambda: api.condition(GATEWAYS, *FRONT, "Accepted") == "InvalidParameters")
        (message,) = (
            each["message"] for each in api.status(GATEWAYS, *FRONT)["conditions"] if each["type"] == "Accepted"
        )
        assert "ConfigMap infra/parameters: pickerConfig:4:" in message
        assert 'did you mean "queue-scorer"' in message
        right = wrong.replace("queue-scorre", "queue-scorer")
        api.put(CONFIG_MAPS, config_map({"pickerConfig": right}))
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        (container,) = api.objects(DEPLOYMENTS)[NAME]["spec"]["template"]["spec"]["containers"]
        assert container["args"][container["args"].index("--config-text") + 1] == right


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
        await until(lambda: ("certs", "infra.front-ours-secrets") in api.objects(ROLES))
        asked = [query for _, path, query in api.requests if path.endswith("/secrets")]
        assert asked
        assert all("fieldSelector=metadata.name" in query for query in asked)
        assert set(controller.copies.objects(SECRETS)) == {("infra", "own"), ("certs", "far")}
        api.remove(REFERENCE_GRANTS, "certs", "grant")
        await until(lambda: ("certs", "infra.front-ours-secrets") not in api.objects(ROLES))
        assert set(controller.copies.objects(SECRETS)) == {("infra", "own")}


def secret(name: str, namespace: str) -> Object:
    data = {key: base64.b64encode(b"x").decode() for key in ("tls.crt", "tls.key")}
    return {"metadata": {"name": name, "namespace": namespace}, "type": "kubernetes.io/tls", "data": data}


@on_loop
async def test_a_gateway_that_goes_takes_its_objects_along_but_a_class_that_goes_does_not() -> None:
    async with controlled(*whole()) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await still(controller)
        before = api.writes
        api.remove(GATEWAY_CLASSES, "", "ours")
        await still(controller)
        async with running(api) as second:
            await until(lambda: second.counts.rounds and not list(second.unready()))
            await still(second)
        assert api.writes == before, "objects, accounts and statuses are as they were, also for a new leader"
        api.put(GATEWAYS, gateway("late"))
        await still(controller)
        assert not api.status(GATEWAYS, "infra", "late"), "that one was never ours"
        api.remove(GATEWAYS, "infra", "late")
        api.put(GATEWAY_CLASSES, gateway_class(controller="example.com/other"))
        await until(lambda: NAME not in api.objects(DEPLOYMENTS))
        api.put(GATEWAY_CLASSES, gateway_class())
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        api.remove(GATEWAYS, "infra", "front")
        await until(lambda: NAME not in api.objects(DEPLOYMENTS))
        await until(lambda: api.status(HTTP_ROUTES, "apps", "route")["parents"] == [])
        await until(lambda: not next(iter(api.objects(CLUSTER_ROLE_BINDINGS).values()))["subjects"])


@on_loop
async def test_routes_are_told_on_while_a_class_is_gone() -> None:
    async with controlled(*whole()) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await still(controller)
        api.remove(GATEWAY_CLASSES, "", "ours")
        api.put(HTTP_ROUTES, http_route("second"))
        await until(lambda: api.condition(HTTP_ROUTES, "apps", "second", "Accepted") == "Accepted")


@on_loop
async def test_a_gateway_of_a_class_that_never_was_keeps_what_it_has() -> None:
    async with controlled(*whole()) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await still(controller)
        api.put(GATEWAYS, gateway(gatewayClassName="misspelt"))
        await still(controller)
        assert NAME in api.objects(DEPLOYMENTS)
        assert [one["name"] for one in subjects(api)] == ["front-ours"], "its pods still read"


@on_loop
async def test_a_gateway_that_can_no_longer_be_read_keeps_what_it_has() -> None:
    api = Server()
    await api.start()
    for resource, value in whole():
        api.put(resource, value)
    async with running(api) as controller:
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await still(controller)
        api.put(GATEWAYS, {**gateway(), "spec": {"gatewayClassName": "ours", "listeners": 3}})
        await still(controller)
        assert NAME in api.objects(DEPLOYMENTS)
        assert api.condition(HTTP_ROUTES, "apps", "route", "Accepted") == "Accepted"
    async with running(api) as later:
        await until(lambda: later.counts.rounds and not list(later.unready()))
        await still(later)
    assert NAME in api.objects(DEPLOYMENTS), "also for a controller that never read it"
    assert [one["name"] for one in subjects(api)] == ["front-ours"]
    await api.stop()


def is_labelled(api: Server, resource: Resource) -> bool:
    return MANAGED_BY in api.objects(resource)[NAME]["metadata"]["labels"]


def subjects(api: Server) -> list[Object]:
    """Accounts that may read routing objects."""
    (binding,) = api.objects(CLUSTER_ROLE_BINDINGS).values()
    found: list[Object] = binding["subjects"]
    return found


def stranger(resource: Resource, **more: Any) -> tuple[Resource, Object]:
    """Somebody else's object with the name of the Gateway's."""
    return resource, {"metadata": {"name": NAME[1], "namespace": NAME[0], "uid": "theirs"}, "spec": {"a": 1}, **more}


@pytest.mark.parametrize("resource", [r for r in WORKLOAD if r not in (ROLES, ROLE_BINDINGS)], ids=str)
@on_loop
async def test_what_somebody_else_has_under_our_name_is_left_alone_and_the_status_says_so(resource: Resource) -> None:
    theirs = stranger(resource)
    async with controlled(theirs, *whole(), settings=PATIENT) as (api, controller):
        await until(lambda: api.condition(GATEWAYS, "infra", "front", "Programmed") == "NoResources")
        (message,) = (
            one["message"] for one in api.status(GATEWAYS, *FRONT)["conditions"] if one["type"] == "Programmed"
        )
        assert f"{resource.kind} infra/front-ours" in message
        await still(controller)
        assert api.objects(resource)[NAME]["spec"] == theirs[1]["spec"]
        assert all(NAME not in api.objects(each) for each in WORKLOAD if each != resource), "nothing is made by halves"
        assert not subjects(api), "an account of somebody else reads nothing"
        api.remove(resource, *NAME)
        await until(lambda: all(NAME in api.objects(each) for each in (DEPLOYMENTS, SERVICES)))
        await until(lambda: api.condition(GATEWAYS, *FRONT, "Programmed") == "AddressNotAssigned")


@on_loop
async def test_a_gateway_that_goes_takes_nothing_of_somebody_else_along() -> None:
    async with controlled(stranger(SERVICES), *whole(), settings=PATIENT) as (api, controller):
        await until(lambda: api.condition(GATEWAYS, *FRONT, "Programmed") == "NoResources")
        api.remove(GATEWAYS, *FRONT)
        await still(controller)
        assert NAME in api.objects(SERVICES)


@on_loop
async def test_pods_stay_when_a_name_is_taken_later_and_a_label_that_is_lost_is_put_back() -> None:
    async with controlled(*whole(), settings=PATIENT) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        await still(controller)
        for resource in (DEPLOYMENTS, SERVICES):
            bare = api.objects(resource)[NAME]
            api.put(resource, {**bare, "metadata": {**bare["metadata"], "labels": {}}})
        for resource in (DEPLOYMENTS, SERVICES):
            await until(partial(is_labelled, api, resource))
        api.remove(SERVICES, *NAME)
        api.put(*stranger(SERVICES))
        await until(lambda: api.condition(GATEWAYS, *FRONT, "Programmed") == "NoResources")
        await still(controller)
        assert NAME in api.objects(DEPLOYMENTS)
        assert subjects(api)


@on_loop
async def test_what_may_be_read_ends_with_its_grant_even_where_nothing_is_left_to_serve() -> None:
    https = listener("https", 443, "HTTPS", tls={"certificateRefs": [{"name": "far", "namespace": "certs"}]})
    objects = [
        (GATEWAY_CLASSES, gateway_class()),
        (GATEWAYS, gateway(listeners=[https])),
        (REFERENCE_GRANTS, reference_grant("Gateway", "Secret", "certs", "infra")),
        (SECRETS, usable_secret("far", "certs")),
    ]
    async with controlled(*objects) as (api, _):
        await until(lambda: ("certs", "infra.front-ours-secrets") in api.objects(ROLES))
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        api.remove(REFERENCE_GRANTS, "certs", "grant")
        await until(lambda: not api.objects(ROLES) and not api.objects(ROLE_BINDINGS))
        assert NAME in api.objects(DEPLOYMENTS)


def usable_secret(name: str, namespace: str) -> Object:
    """With a certificate and its key."""
    return tls_secret(name, *certificate("a.example.com"), namespace=namespace)


@on_loop
async def test_a_plan_is_made_beside_the_loop_which_has_leases_and_probes_to_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With thousands of hostnames it takes seconds."""
    threads = set()

    def noted(world: World, name: str) -> Plan:
        threads.add(threading.current_thread())
        return plan(world, name)

    monkeypatch.setattr(module, "plan", noted)
    async with controlled(*whole()) as (api, _):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
    assert threads
    assert threading.current_thread() not in threads


@on_loop
async def test_a_secret_of_which_nothing_is_heard_holds_up_nobody_for_long() -> None:
    https = listener("https", 443, "HTTPS", tls={"certificateRefs": [{"name": "slow"}]})
    settings = Settings(settle_seconds=0.005, held_seconds=0.5)
    async with controlled(*whole(), settings=settings) as (api, controller):
        await until(lambda: NAME in api.objects(DEPLOYMENTS))
        api.lies.silent.add("secrets")
        api.put(GATEWAYS, gateway("slow", listeners=[listener(), https]))
        api.put(HTTP_ROUTES, http_route("second"))
        await until(lambda: api.condition(HTTP_ROUTES, "apps", "second", "Accepted") == "Accepted")
        assert api.condition(GATEWAYS, "infra", "slow", "Accepted") == "ListenersNotValid"
        controller._awaiting.held_seconds = 1000.0
        api.put(HTTP_ROUTES, http_route("third"))
        await until(lambda: api.condition(HTTP_ROUTES, "apps", "third", "Accepted") == "Accepted")
        api.put(SECRETS, usable_secret("slow", "infra"))
        api.lies.silent.clear()
        await until(lambda: api.condition(GATEWAYS, "infra", "slow", "Accepted") == "Accepted")


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
        await still(controller)
        before = api.writes
        api.put(NAMESPACES, {"metadata": {"name": "infra", "labels": {"a": "b"}}})
        await still(controller)
        assert api.writes == before
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
    async with controlled(*whole()[:1], settings=PATIENT) as (api, controller):
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
