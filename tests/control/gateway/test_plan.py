"""From objects to who gets which request: attachment, precedence, references, isolation of listeners."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from stellwerk.control.gateway.backend import BODY_MODE, BodyMode, ForeignPicker, PoolTarget, Target, Unresolved
from stellwerk.control.gateway.kinds import RouteMatch
from stellwerk.control.gateway.plan import Attachment, GatewayPlan, Plan, plan
from stellwerk.control.remark import MAX_MESSAGE
from stellwerk.model.members import Members
from tests.kit.gateway_objects import (
    CONTROLLER,
    Object,
    certificate,
    endpoint_slice,
    entity,
    gateway,
    gateway_class,
    grant,
    listener,
    made,
    picker_ref,
    pool,
    route,
    rule,
    service,
    tls_secret,
    to_pool,
    to_service,
)


def planned(*objects: Object) -> Plan:
    return plan(made(gateway_class(), *objects), CONTROLLER)


def public(*objects: Object) -> GatewayPlan:
    return planned(*objects).gateways["default/public"]


def attachment(*objects: Object) -> Attachment:
    (found,) = planned(*objects).attachments
    return found


def accepted(*objects: Object) -> tuple[str, str]:
    condition = attachment(*objects).accepted
    return condition.status, condition.reason


def order(gateway_plan: GatewayPlan, domain: str = "*") -> list[str]:
    """Names of the rules of a host, in the order in which they are tried."""
    (host,) = [host for each in gateway_plan.listeners for host in each.hosts if host.domain == domain]
    return [entry.rule.name for entry in host.entries]


def hosts(gateway_plan: GatewayPlan, listener_name: str) -> dict[str, int]:
    (found,) = [each for each in gateway_plan.listeners if each.name == listener_name]
    return {host.domain: len(host.entries) for host in found.hosts}


# Which Gateways are ours, and which routes attach


def test_only_gateways_of_our_classes_are_planned() -> None:
    other = gateway_class("other", "example.com/other")
    found = planned(other, gateway(), gateway(name="theirs", class_name="other"), gateway(name="lost", class_name="no"))
    assert list(found.gateways) == ["default/public"]
    assert [each.metadata.name for each in found.classes] == ["stellwerk"]


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ({}, ("True", "Accepted")),
        ({"sectionName": "http"}, ("True", "Accepted")),
        ({"port": 80}, ("True", "Accepted")),
        ({"sectionName": "http", "port": 81}, ("False", "NoMatchingParent")),
        ({"sectionName": "nope"}, ("False", "NoMatchingParent")),
        ({"port": 81}, ("False", "NoMatchingParent")),
    ],
)
def test_a_route_attaches_to_the_listeners_that_its_parent_ref_means(parent: Object, expected: tuple[str, str]) -> None:
    assert accepted(gateway(), route("a", rule(), parents=[{"name": "public", **parent}])) == expected


@pytest.mark.parametrize(
    ("allowed", "labels", "is_admitted"),
    [
        ({"from": "Same"}, {}, False),
        ({"from": "All"}, {}, True),
        ({"from": "None"}, {}, False),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}, {"team": "a"}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}, {"team": "b"}, False),
        ({"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}}}, {}, True),
        (
            {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}},
            {"team": "x"},
            True,
        ),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]},
            },
            {"team": "x"},
            False,
        ),
    ],
)
def test_a_listener_says_from_which_namespaces(allowed: Object, labels: dict[str, str], is_admitted: bool) -> None:
    namespace = entity("v1", "Namespace", "apps", "", labels=labels)
    front = gateway(listener(allowedRoutes={"namespaces": allowed}))
    parents = [{"name": "public", "namespace": "default"}]
    foreign = route("a", rule(), namespace="apps", parents=parents)
    expected = ("True", "Accepted") if is_admitted else ("False", "NotAllowedByListeners")
    assert accepted(namespace, front, foreign) == expected


def test_a_listener_for_other_kinds_admits_no_http_route() -> None:
    front = gateway(listener(allowedRoutes={"kinds": [{"kind": "TLSRoute"}]}))
    assert accepted(front, route("a", rule())) == ("False", "NotAllowedByListeners")
    assert public(front, route("a", rule())).listeners[0].attached == 0


def test_hostnames_that_no_listener_serves_are_not_accepted() -> None:
    front = gateway(listener(hostname="*.example.com"))
    assert accepted(front, route("a", rule(), hostnames=["a.example.org"])) == ("False", "NoMatchingListenerHostname")
    assert accepted(front, route("a", rule(), hostnames=["a.example.org", "b.example.com"])) == ("True", "Accepted")


def test_attached_routes_are_counted_whether_or_not_a_listener_can_serve() -> None:
    tls = {"certificateRefs": [{"name": "missing"}]}
    front = gateway(listener("a"), listener("b", 443, "HTTPS", tls=tls))
    found = public(front, route("one", rule()), route("two", rule(), parents=[{"name": "public", "sectionName": "b"}]))
    assert [each.attached for each in found.listeners] == [1, 2]
    assert [each.checked.can_serve for each in found.listeners] == [True, False]
    assert found.listeners[1].hosts == ()


VALIDATION = {"validation": {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}}


@pytest.mark.parametrize(
    ("frontend", "open_ports"),
    [
        ({"default": {}}, [80, 443, 8443]),
        ({"default": VALIDATION}, [80]),
        ({"default": {}, "perPort": [{"port": 443, "tls": VALIDATION}]}, [80, 8443]),
        ({"default": VALIDATION, "perPort": [{"port": 443, "tls": {}}]}, [80, 443]),
    ],
)
def test_https_that_asks_for_client_certificates_is_not_served_to_everybody(
    frontend: Object, open_ports: list[int]
) -> None:
    tls = {"certificateRefs": [{"name": "c"}]}
    https = [listener(f"s{port}", port, "HTTPS", tls=tls) for port in (443, 8443)]
    front = gateway(listener(), *https)
    front["spec"]["tls"] = {"frontend": frontend}
    found = public(front, tls_secret("c", *certificate("a")))
    assert [each.checked.listener.port for each in found.serving] == open_ports
    for each in found.listeners:
        if each not in found.serving:
            assert each.checked.not_accepted is not None
            assert each.checked.not_accepted.reason == "UnsupportedValue"
            assert "spec.tls.frontend" in each.checked.not_accepted.message


def test_the_older_way_to_ask_for_client_certificates_is_refused_too() -> None:
    tls = {"certificateRefs": [{"name": "c"}], "frontendValidation": VALIDATION["validation"]}
    found = public(gateway(listener("s", 443, "HTTPS", tls=tls)), tls_secret("c", *certificate("a")))
    assert not found.serving


# Precedence


def match(**fields: Any) -> Object:
    return fields


EXACT = match(path={"type": "Exact", "value": "/a"})
REGEX = match(path={"type": "RegularExpression", "value": "/a.*"})
LONG = match(path={"type": "PathPrefix", "value": "/a/b"})
SHORT = match(path={"type": "PathPrefix", "value": "/a"})
HEADERS = match(headers=[{"name": "x", "value": "1"}, {"name": "y", "value": "2"}])
HEADER = match(headers=[{"name": "x", "value": "1"}])
QUERY = match(queryParams=[{"name": "q", "value": "1"}])
METHOD = match(method="GET")
ANY = match()
IN_ORDER = [EXACT, REGEX, LONG, SHORT, METHOD, HEADERS, HEADER, QUERY, ANY]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_more_specific_match_is_tried_first(reverse: bool) -> None:
    named = [(f"r{index}", one) for index, one in enumerate(IN_ORDER)]
    routes = [route(name, {"matches": [one]}) for name, one in (reversed(named) if reverse else named)]
    assert order(public(gateway(), *routes)) == [f"default/{name}/0" for name, _ in named]


def test_a_trailing_slash_makes_no_prefix_longer() -> None:
    old = route("old", rule(path="/a/"), created=1)
    new = route("new", rule(path="/a"), created=2)
    assert order(public(gateway(), new, old)) == ["default/old/0", "default/new/0"]


def test_of_equal_matches_the_oldest_route_holds_then_the_name_then_the_order() -> None:
    routes = [
        route("z", rule(path="/a"), rule(path="/a"), created=1),
        route("b", rule(path="/a"), created=2),
        route("a", rule(path="/a"), created=2),
    ]
    for shuffled in permutations(routes):
        assert order(public(gateway(), *shuffled)) == [
            "default/z/0", "default/z/1", "default/a/0", "default/b/0",
        ]  # fmt: skip


def test_a_more_specific_hostname_comes_before_a_more_specific_path() -> None:
    wide = route("wide", {"matches": [EXACT]}, hostnames=["*.example.com"])
    narrow = route("narrow", rule(path="/"), hostnames=["a.example.com"])
    found = public(gateway(), wide, narrow)
    assert order(found, "a.example.com") == ["default/narrow/0", "default/wide/0"]
    assert order(found, "*.example.com") == ["default/wide/0"]


# Listeners


def test_a_name_belongs_to_the_most_specific_listener_of_its_port() -> None:
    front = gateway(
        listener("any"), listener("wild", hostname="*.example.com"), listener("one", hostname="a.example.com")
    )
    only_any = route("a", rule(), parents=[{"name": "public", "sectionName": "any"}],
                     hostnames=["a.example.com", "b.example.com", "example.org"])  # fmt: skip
    found = public(front, only_any)
    assert hosts(found, "any") == {"*": 0, "example.org": 1}
    assert hosts(found, "wild") == {"*.example.com": 0}
    assert hosts(found, "one") == {"a.example.com": 0}


def test_listeners_of_other_ports_do_not_take_names_away() -> None:
    front = gateway(listener("any"), listener("other", 8080, hostname="a.example.com"))
    found = public(front, route("a", rule(), hostnames=["a.example.com"]))
    assert hosts(found, "any") == {"*": 0, "a.example.com": 1}


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (listener("b", 80, "HTTPS"), "ProtocolConflict"),
        (listener("b", 80), "HostnameConflict"),
    ],
)
def test_listeners_in_conflict_serve_nothing(second: Object, reason: str) -> None:
    found = public(gateway(listener("a"), second, listener("c", 81)))
    assert [each.checked.conflicted.reason if each.checked.conflicted else "" for each in found.listeners] == [
        reason, reason, "",
    ]  # fmt: skip
    assert [each.name for each in found.serving] == ["c"]


@pytest.mark.parametrize(("protocol", "tls"), [("TCP", None), ("HTTPS", {"mode": "Passthrough"})])
def test_what_is_not_supported_is_not_accepted(protocol: str, tls: Object | None) -> None:
    (found,) = public(gateway({**listener(protocol=protocol), **({"tls": tls} if tls else {})})).listeners
    assert found.checked.not_accepted is not None
    assert not found.checked.can_serve


def https(**reference: Any) -> Object:
    return gateway(listener("https", 443, "HTTPS", tls={"certificateRefs": [{"name": "cert", **reference}]}))


def test_a_certificate_is_read_from_its_secret() -> None:
    chain, key = certificate("example.com")
    (found,) = public(https(), tls_secret("cert", chain, key)).certificates
    assert (found.secret, found.chain, found.key) == ("default/cert", chain, key)
    assert "PRIVATE" not in repr(found)


def usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, not digital_signature, *[False] * 6)


def bad_secrets() -> list[tuple[Object, str]]:
    chain, key = certificate("a.example.com")
    _, other = certificate("b.example.com")
    return [
        (tls_secret("other", chain, key), "there is no Secret"),
        (tls_secret("cert", b"Hello world", key), "no certificate in PEM"),
        (tls_secret("cert", chain, b"Hello world"), "no unencrypted private key"),
        (tls_secret("cert", chain, other), "not the key"),
        (tls_secret("cert", chain, b""), "has no tls.key"),
        (tls_secret("cert", *certificate("a", rsa.generate_private_key(65537, 1024))), "1024 bits: use 2048"),
        (tls_secret("cert", *certificate("a", ec.generate_private_key(ec.SECP224R1()))), "secp224r1: use P-256"),
        (tls_secret("cert", *certificate("a", dsa.generate_private_key(1024))), "use RSA"),
        (tls_secret("cert", *certificate("a", None, usage(digital_signature=False))), "digital signatures"),
        (entity("v1", "Secret", "cert", data={"tls.crt": "!", "tls.key": "!"}), "not base64"),
    ]


@pytest.mark.parametrize(("secret", "message"), bad_secrets())
def test_a_bad_certificate_is_told_and_not_served(secret: Object, message: str) -> None:
    (found,) = public(https(), secret).listeners
    assert found.checked.unresolved is not None
    assert found.checked.unresolved.reason == "InvalidCertificateRef"
    assert message in found.checked.unresolved.message
    assert not found.checked.can_serve


@pytest.mark.parametrize("secret", [None, *(secret for secret, _ in bad_secrets()[1:])])
def test_a_secret_that_is_spoilt_serves_with_what_it_held_before_and_says_so(secret: Object | None) -> None:
    before = public(https(), tls_secret("cert", *certificate("example.com"))).certificates
    world = made(gateway_class(), https(), *([secret] if secret is not None else []))
    found = plan(world, CONTROLLER, before=before).gateways["default/public"]
    assert found.certificates == before
    (kept,) = found.serving
    assert kept.checked.unresolved is not None
    assert kept.checked.unresolved.reason == "InvalidCertificateRef"


def test_what_a_secret_held_before_serves_only_where_it_may_still_be_used() -> None:
    certificates = tls_secret("cert", *certificate("example.com"), namespace="certs")
    front, leave = https(namespace="certs"), grant("certs", "Gateway", "default", "Secret")
    before = public(front, certificates, leave).certificates
    assert before
    for objects in (
        [front, certificates],
        [front],
        [https(name="other")],
        [https(kind="ConfigMap", namespace="certs")],
    ):
        found = plan(made(gateway_class(), *objects), CONTROLLER, before=before).gateways["default/public"]
        assert found.certificates == ()
        assert found.serving == ()


def test_a_certificate_of_another_namespace_needs_a_grant() -> None:
    chain, key = certificate("example.com")
    secret = tls_secret("cert", chain, key, namespace="certs")
    front = https(namespace="certs")
    (refused,) = public(front, secret).listeners
    assert refused.checked.unresolved is not None
    assert refused.checked.unresolved.reason == "RefNotPermitted"
    for name in ("cert", None):
        (found,) = public(front, secret, grant("certs", "Gateway", "default", "Secret", name)).listeners
        assert found.checked.unresolved is None
    (other,) = public(front, secret, grant("certs", "Gateway", "default", "Secret", "another")).listeners
    assert other.checked.unresolved is not None
    (wrong,) = public(front, secret, grant("certs", "HTTPRoute", "default", "Secret")).listeners
    assert wrong.checked.unresolved is not None


# Backends


def backend_of(*objects: Object) -> Target | PoolTarget | None:
    ((backend,),) = [entry.rule.backends for each in public(*objects).listeners for entry in each.hosts[0].entries]
    return backend.target


def test_a_service_leads_to_its_ready_endpoints_by_the_name_of_the_port() -> None:
    other = endpoint_slice("web", 9999)
    other["ports"][0]["name"] = "metrics"
    slices = [endpoint_slice("web", 8001), endpoint_slice("web", 8002, ready=False), endpoint_slice("not", 8003), other]
    target = backend_of(gateway(), service("web"), *slices, route("a", rule(to_service("web"))))
    assert isinstance(target, Target)
    assert target.members == Members((("127.0.0.1", 8001),))
    assert not target.is_http2


def test_pods_that_are_being_deleted_and_still_serve_stand_in() -> None:
    leaving, gone = endpoint_slice("web", 8001, ready=False), endpoint_slice("web", 8002, ready=False)
    leaving["endpoints"][0]["conditions"] |= {"serving": True, "terminating": True}
    gone["endpoints"][0]["conditions"] |= {"serving": False, "terminating": True}
    slices = [leaving, gone, endpoint_slice("web", 8003)]
    target = backend_of(gateway(), service("web"), *slices, route("a", rule(to_service("web"))))
    assert isinstance(target, Target)
    assert target.members == Members((("127.0.0.1", 8003),), (("127.0.0.1", 8001),))


def test_of_two_ports_with_one_number_the_one_of_tcp_is_meant() -> None:
    both, alone = service("dns"), service("dns")
    both["spec"]["ports"] = [{"name": "udp", "port": 80, "protocol": "UDP"}, {"name": "main", "port": 80}]
    alone["spec"]["ports"] = both["spec"]["ports"][:1]
    objects = [gateway(), endpoint_slice("dns", 8001), route("a", rule(to_service("dns")))]
    target = backend_of(both, *objects)
    assert isinstance(target, Target)
    assert target.members.ready == (("127.0.0.1", 8001),)
    assert "no TCP port 80" in attachment(alone, *objects).resolved.message


@pytest.mark.parametrize(
    ("protocol", "is_http2"), [("kubernetes.io/h2c", True), ("http", False), ("kubernetes.io/ws", False)]
)
def test_the_app_protocol_says_what_a_service_speaks(protocol: str, is_http2: bool) -> None:
    target = backend_of(gateway(), service("web", app_protocol=protocol), route("a", rule(to_service("web"))))
    assert isinstance(target, Target)
    assert target.is_http2 is is_http2


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (to_service("missing"), "BackendNotFound"),
        (to_service("web", 81), "BackendNotFound"),
        ({"name": "web"}, "BackendNotFound"),
        (to_pool("missing"), "BackendNotFound"),
        ({"name": "x", "kind": "ConfigMap", "port": 80}, "InvalidKind"),
        ({"name": "x", "group": "example.com", "kind": "Service"}, "InvalidKind"),
        (to_service("web", namespace="other"), "RefNotPermitted"),
        (to_pool("pool", namespace="other"), "RefNotPermitted"),
        (to_service("secure"), "UnsupportedProtocol"),
        (to_service("outside"), "UnsupportedProtocol"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why_and_the_route_stays_accepted(reference: Object, reason: str) -> None:
    outside = service("outside")
    outside["spec"]["type"] = "ExternalName"
    objects = [gateway(), service("web"), service("secure", app_protocol="https"), outside, pool("pool")]
    found = attachment(*objects, route("a", rule(reference)))
    assert (found.accepted.status, found.resolved.status, found.resolved.reason) == ("True", "False", reason)
    assert backend_of(*objects, route("a", rule(reference))) is None


def test_a_grant_opens_another_namespace() -> None:
    objects = [gateway(), service("web", namespace="other"), route("a", rule(to_service("web", namespace="other")))]
    assert backend_of(*objects) is None
    assert isinstance(backend_of(*objects, grant("other", "HTTPRoute", "default", "Service")), Target)
    assert isinstance(backend_of(*objects, grant("other", "HTTPRoute", "default", "Service", "web")), Target)
    assert backend_of(*objects, grant("other", "HTTPRoute", "default", "Service", "api")) is None
    assert backend_of(*objects, grant("other", "HTTPRoute", "elsewhere", "Service")) is None
    assert backend_of(*objects, grant("default", "HTTPRoute", "default", "Service")) is None


# Pools and pickers


def target_of(one: Object, *objects: Object) -> PoolTarget:
    found = backend_of(gateway(), one, *objects, route("a", rule(to_pool("p"))))
    assert isinstance(found, PoolTarget)
    return found


def test_a_pool_without_a_picker_is_served_by_ours() -> None:
    assert target_of(pool("p")).picker is None
    assert public(gateway(), pool("p"), route("a", rule(to_pool("p")))).own_pools == {"default/p"}


def test_the_port_of_a_reference_to_a_pool_does_not_matter() -> None:
    found = attachment(gateway(), pool("p"), route("a", rule(to_pool("p", port=1))))
    assert found.resolved.status == "True"


def test_a_pools_own_picker_is_found_by_its_service() -> None:
    objects = (service("epp", 9002), endpoint_slice("epp", 9002))
    found = target_of(pool("p", picker_ref("epp", mode="FailOpen")), *objects)
    assert isinstance(found.picker, ForeignPicker)
    assert (found.is_open, found.picker.is_secure, found.picker.mode) == (True, True, BodyMode.DUPLEX)
    assert found.picker.members == Members((("127.0.0.1", 9002),))
    plain = target_of(pool("p", picker_ref("epp")), service("epp", 9002, "kubernetes.io/h2c"))
    assert isinstance(plain.picker, ForeignPicker)
    assert not plain.picker.is_secure


@pytest.mark.parametrize(
    ("picker", "objects"),
    [
        (picker_ref("missing"), ()),
        (picker_ref("epp", 9003), (service("epp", 9002),)),
        ({"name": "epp", "kind": "Pod"}, (service("epp", 9002),)),
        ({"name": "epp", "group": "example.com", "port": {"number": 9002}}, (service("epp", 9002),)),
    ],
)
def test_a_pool_whose_picker_is_missing_can_be_served_only_if_it_is_open(
    picker: Object, objects: Sequence[Object]
) -> None:
    found = target_of(pool("p", picker), *objects)
    assert isinstance(found.picker, Unresolved)
    assert found.picker.reason == "InvalidExtensionRef"
    assert found.is_missing
    assert not target_of(pool("p", {**picker, "failureMode": "FailOpen"}), *objects).is_missing


def test_the_pool_says_how_its_picker_is_shown_bodies() -> None:
    epp = service("epp", 9002)
    streamed = target_of(pool("p", picker_ref("epp"), annotations={BODY_MODE: "Streamed"}), epp)
    assert isinstance(streamed.picker, ForeignPicker)
    assert streamed.picker.mode is BodyMode.STREAMED
    wrong = target_of(pool("p", picker_ref("epp"), annotations={BODY_MODE: "Sometimes"}), epp)
    assert isinstance(wrong.picker, Unresolved)
    assert "FullDuplexStreamed or Streamed" in wrong.picker.message


# Rules


def test_a_rule_with_an_unknown_filter_fails_alone() -> None:
    strange = rule(to_pool("p"), filters=[{"type": "ExtensionRef"}])
    found = attachment(gateway(), pool("p"), route("a", strange, rule(to_pool("p"))))
    assert found.accepted.status == "True"
    assert found.partly is not None
    assert found.partly.message == "Dropped Rule spec.rules[0]: filter ExtensionRef is not supported"
    alone = attachment(gateway(), pool("p"), route("a", strange))
    assert (alone.accepted.status, alone.accepted.reason) == ("False", "UnsupportedValue")


def test_dropped_rules_are_named_by_place_and_name() -> None:
    strange = rule(to_pool("p"), filters=[{"type": "ExtensionRef"}])
    found = attachment(gateway(), pool("p"), route("a", rule(to_pool("p")), {**strange, "name": "odd"}, strange))
    assert found.partly is not None
    assert found.partly.message.startswith("Dropped Rules spec.rules[1] (odd): filter")
    assert "; spec.rules[2]: filter" in found.partly.message


def test_a_route_that_is_not_accepted_is_not_partly_so() -> None:
    rules = [rule(to_pool("p")), rule(to_pool("p"), filters=[{"type": "ExtensionRef"}])]
    found = attachment(gateway(), pool("p"), route("a", *rules, parents=[{"name": "public", "sectionName": "nope"}]))
    assert (found.accepted.status, found.partly) == ("False", None)


def test_a_message_says_how_much_more_there_is_to_say() -> None:
    refs = [to_service(f"{'s' * 240}{index}", namespace="n" * 60) for index in range(200)]
    message = attachment(gateway(), route("a", rule(*refs))).resolved.message
    assert len(message) <= MAX_MESSAGE
    told = message.count("no ReferenceGrant")
    assert message.endswith(f"; and {200 - told} more")


def test_a_match_that_envoy_cannot_be_told_is_left_out_and_the_others_of_its_rule_fail() -> None:
    bad = {"path": {"type": "RegularExpression", "value": "(?=a)"}}
    mixed = {"matches": [bad, {"path": {"value": "/a"}}], "backendRefs": [to_pool("p")]}
    found = public(gateway(), pool("p"), route("a", mixed, rule(to_pool("p"), path="/b")))
    entries = found.listeners[0].hosts[0].entries
    assert [(each.match.path.value, each.rule.problem is None) for each in entries] == [("/a", False), ("/b", True)]


def test_mirrors_without_a_backend_are_told_and_left_out() -> None:
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to_service("missing")}}
    objects = (gateway(), pool("p"), route("a", rule(to_pool("p"), filters=[mirror])))
    assert attachment(*objects).resolved.reason == "BackendNotFound"
    ((entry,),) = [host.entries for host in public(*objects).listeners[0].hosts]
    assert entry.rule.mirrors == ()
    assert entry.match == RouteMatch()


def test_the_plan_does_not_depend_on_the_order_of_objects() -> None:
    objects = [
        gateway_class(), gateway(), pool("p"), service("web"),
        route("a", rule(to_pool("p"), path="/a"), created=3), route("b", rule(to_service("web"), path="/a"), created=3),
    ]  # fmt: skip
    plans = [plan(made(*each), CONTROLLER) for each in permutations(objects)]
    assert all(each == plans[0] for each in plans)
