"""Addresses of model servers: a literal IPv4 or IPv6 address, or a name for DNS."""

import ipaddress
import re
from functools import lru_cache

_LABEL = r"[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
NAME = rf"({_LABEL}\.)*{_LABEL}\.?"
"""What DNS can be asked for, up to its length; a pattern of RE2 as well."""
NUMBER_AT_END = r"(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)\.?$"
"""A name that ends so is a mistyped address (`10.0.0`, `127.1`)."""
_NAME = re.compile(rf"(?=.{{1,253}}\Z){NAME}")
_NUMBER_AT_END = re.compile(NUMBER_AT_END.replace("$", r"\Z"))


@lru_cache(maxsize=16_384)
def literal(address: str) -> str | None:
    """The canonical spelling of a literal address, or None. A scoped IPv6 address is none: a proxy cannot use it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return None if getattr(parsed, "scope_id", None) else str(parsed)


def is_reachable(address: str) -> bool:
    """Whether one can connect to a literal address: `0.0.0.0` and multicast are for listening."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_unspecified or parsed.is_multicast)


def is_name(address: str) -> bool:
    """Whether DNS can be asked for `address`."""
    return _NAME.fullmatch(address) is not None and not _NUMBER_AT_END.search(address)
