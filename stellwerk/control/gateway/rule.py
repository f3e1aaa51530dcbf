"""The rules of one HTTPRoute with their references resolved, and the order in which matches are tried."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from stellwerk.control.gateway.acceptable import match_problem, problem_of
from stellwerk.control.gateway.backend import Backends, PoolTarget, Target, Unresolved
from stellwerk.control.gateway.duration import seconds
from stellwerk.control.gateway.hostname import specificity
from stellwerk.control.gateway.kinds import (
    BackendRef,
    Cors,
    Filter,
    HeaderFilter,
    HTTPRoute,
    Mirror,
    ObjectRef,
    Redirect,
    Rewrite,
    RouteMatch,
    RouteRule,
)

AnyTarget = Target | PoolTarget


class Backend(Struct, frozen=True):
    """A share of a rule's traffic. `target` None: the reference leads nowhere, and its share is answered 500; so is
    that of a pool whose picker is missing."""

    weight: int
    target: AnyTarget | None
    request_headers: tuple[HeaderFilter, ...] = ()
    response_headers: tuple[HeaderFilter, ...] = ()


class MirrorTo(Struct, frozen=True):
    """Where copies go, of how many requests (`numerator` of `denominator`)."""

    target: AnyTarget
    numerator: int = 100
    denominator: int = 100


class Rule(Struct, frozen=True):
    """What happens to the requests of one rule. `problem`: it asks for what is not supported, and answers 500."""

    name: str
    matches: tuple[RouteMatch, ...] = ()
    """Alternatives, in the order of the object. Without those that Envoy cannot be told: nothing fits them."""
    backends: tuple[Backend, ...] = ()
    request_headers: tuple[HeaderFilter, ...] = ()
    response_headers: tuple[HeaderFilter, ...] = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[MirrorTo, ...] = ()
    cors: Cors | None = None
    request_seconds: float | None = None
    """The whole exchange may take so long; 0: no limit; None: not said."""
    try_seconds: float | None = None
    """Each try of a backend may."""
    problem: str | None = None
    unresolved: tuple[Unresolved, ...] = ()

    @property
    def targets(self) -> tuple[AnyTarget, ...]:
        """All that requests or copies of them go to."""
        backends = [each.target for each in self.backends if each.target is not None]
        return (*backends, *(each.target for each in self.mirrors))


class Entry(Struct, frozen=True):
    """One match of a rule."""

    match: RouteMatch
    rule: Rule


def rules(route: HTTPRoute, backends: Backends) -> tuple[Rule, ...]:
    """Of `route`, in its order. They do not depend on where the route attaches."""
    return tuple(_Reading(route, each, index, backends).rule() for index, each in enumerate(route.spec.rules))


def in_order(routes: Sequence[tuple[str, HTTPRoute, Sequence[Rule]]]) -> tuple[Entry, ...]:
    """The matches of `routes`, each with the hostname by which it is reached, as they are to be tried: the first that
    fits decides.

    More specific hostname; exact path, then regular expression, then the longest prefix; a method; more headers; more
    query parameters; the older route, by name where that does not tell; order of rules and matches. (HTTPRoute's own
    rules; where they leave regular expressions is open there, and after a prefix `/` none would ever be reached.)
    """
    entries = [
        ((tuple(-each for each in specificity(hostname)), _rank(match), _age(route), place, nth), Entry(match, rule))
        for hostname, route, found in routes
        for place, rule in enumerate(found)
        for nth, match in enumerate(rule.matches)
    ]
    return tuple(entry for _, entry in sorted(entries, key=lambda pair: pair[0]))


_KINDS = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


def _rank(match: RouteMatch) -> tuple[int, int, bool, int, int]:
    path = match.path
    length = len(path.value.rstrip("/")) if path.type == "PathPrefix" else len(path.value)
    return (_KINDS.get(path.type, 2), -length, match.method is None, -len(match.headers), -len(match.query_params))


def _age(route: HTTPRoute) -> tuple[bool, datetime, str]:
    text = route.metadata.creation_timestamp
    try:
        created = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return (True, datetime.max.replace(tzinfo=UTC), route.full_name)
    return (False, created if created.tzinfo else created.replace(tzinfo=UTC), route.full_name)


class _Reading:
    """One rule being read; collects what is wrong on the way."""

    def __init__(self, route: HTTPRoute, source: RouteRule, index: int, backends: Backends) -> None:
        self._namespace = route.metadata.namespace
        self._name = f"{route.full_name}/{index}"
        self._source = source
        self._backends = backends
        self._unresolved: list[Unresolved] = []
        self._problem: str | None = None

    def rule(self) -> Rule:
        source = self._source
        self._problem = problem_of(source)
        self._expect(source.filters, ("RequestRedirect", "URLRewrite", "RequestMirror", "CORS"))
        redirects = [each.request_redirect for each in source.filters if each.request_redirect is not None]
        rewrites = [each.url_rewrite for each in source.filters if each.url_rewrite is not None]
        if redirects and rewrites:
            self._problem = "a rule cannot both redirect and rewrite"
        requests, responses = _headers(source.filters)
        mirrors = [self._mirror(each.request_mirror) for each in source.filters if each.request_mirror is not None]
        backends = tuple(map(self._backend, source.backend_refs))
        return Rule(
            self._name,
            tuple(each for each in source.matches or (RouteMatch(),) if match_problem(each) is None),
            backends,
            requests,
            responses,
            redirects[0] if redirects else None,
            rewrites[0] if rewrites else None,
            tuple(each for each in mirrors if each is not None),
            next((each.cors for each in source.filters if each.cors is not None), None),
            seconds(source.timeouts.request or ""),
            seconds(source.timeouts.backend_request or ""),
            self._problem,
            tuple(self._unresolved),
        )

    def _expect(self, filters: Sequence[Filter], more: Sequence[str] = ()) -> None:
        for each in filters:
            if each.type not in ("RequestHeaderModifier", "ResponseHeaderModifier", *more):
                where = "" if more else " on a backend"
                self._problem = f"filter {each.type}{where} is not supported"

    def _resolve(self, reference: ObjectRef) -> AnyTarget | None:
        found = self._backends.resolve(reference, self._namespace)
        if isinstance(found, Unresolved):
            self._unresolved.append(found)
            return None
        return found

    def _backend(self, reference: BackendRef) -> Backend:
        self._expect(reference.filters)
        return Backend(reference.weight, self._resolve(reference), *_headers(reference.filters))

    def _mirror(self, mirror: Mirror) -> MirrorTo | None:
        target = self._resolve(mirror.backend_ref)
        if target is None:
            return None
        if mirror.fraction is not None:
            return MirrorTo(target, mirror.fraction.numerator, mirror.fraction.denominator)
        return MirrorTo(target, 100 if mirror.percent is None else mirror.percent)


def _headers(filters: Sequence[Filter]) -> tuple[tuple[HeaderFilter, ...], tuple[HeaderFilter, ...]]:
    requests = (each.request_header_modifier for each in filters)
    responses = (each.response_header_modifier for each in filters)
    return tuple(filter(None, requests)), tuple(filter(None, responses))
