"""Requests that come on a connection which was opened for another listener's name: 421, so that a client that keeps
one connection for many names opens another (RFC 9110, 15.5.20; Gateway API, `Listener.hostname`).

The doorman says it, since Envoy's routes do not see the name of a TLS handshake. `replies` has the status.
"""

from collections.abc import Iterable, Sequence

from stellwerk.control.envoy.document import Document, typed
from stellwerk.control.envoy.listener import DOORMAN, doors
from stellwerk.control.envoy.replies import MISDIRECTED
from stellwerk.control.gateway.hostname import ANY, covers


def misdirected(own: str, others: Sequence[str]) -> Document:
    """`typed_per_filter_config` of a virtual host that belongs to the HTTPS listener of hostname `own`. `others`: the
    hostnames of all other listeners of its port; a name is the most specific one's."""
    if not others:
        return {}
    narrower = sorted(each for each in others if covers(own, each))
    rules: list[Document] = [_none_of(narrower)] if narrower else []
    if own != ANY:
        rules.append(_named(own))
    elsewhere: Document = {"not_rule": {"and_rules": {"rules": rules}}}
    policy = {"permissions": [elsewhere], "principals": [{"any": True}]}
    per_route = typed(
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": doors({MISDIRECTED: policy})}
    )
    return {DOORMAN: per_route}


def _none_of(names: Iterable[str]) -> Document:
    return {"not_rule": {"or_rules": {"rules": [_named(each) for each in names]}}}


def _named(pattern: str) -> Document:
    """Whether the name of the handshake is one of `pattern`. Envoy has it in lower case."""
    is_exact = not pattern.startswith("*")
    return {"requested_server_name": {"exact": pattern} if is_exact else {"suffix": pattern[1:]}}
