"""Names to addresses: asks the system's resolver, with a deadline, and goes on with the last good answer.

One address family per name, IPv4 if there is one: a host that has both is still one server. Answers are sorted, so that
a resolver that rotates them changes nothing.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

log = logging.getLogger("stellwerk.objects")

Resolver = Callable[[str], Awaitable[Iterable[str]]]
"""Literal addresses of a name; raises OSError if there are none."""

MAX_ADDRESSES = 256
"""Of one name."""
MAX_AT_ONCE = 16


async def system_resolver(name: str) -> Iterable[str]:
    """`getaddrinfo`, off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Names:
    """Last good addresses of every name in use. Owns nothing but that table; `refresh` is called by one task at a time
    for each set of names."""

    def __init__(self, resolver: Resolver, timeout_seconds: float) -> None:
        self._resolver, self._timeout_seconds = resolver, timeout_seconds
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._failing: dict[str, str] = {}
        self._gate = asyncio.Semaphore(MAX_AT_ONCE)

    @property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """What is known, by name."""
        return dict(self._addresses)

    @property
    def failing(self) -> Mapping[str, str]:
        """Names whose last look-up failed, and why."""
        return dict(self._failing)

    def keep(self, names: Collection[str]) -> None:
        """Forget all other names."""
        for table in (self._addresses, self._failing):
            for name in [known for known in table if known not in names]:
                del table[name]

    async def refresh(self, names: Iterable[str]) -> bool:
        """Look `names` up; True if any address changed. Never raises; takes at most about the timeout per
        `MAX_AT_ONCE` names."""
        answers = await asyncio.gather(*(self._look_up(name) for name in names))
        return any(answers)

    async def _look_up(self, name: str) -> bool:
        async with self._gate:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    found = chosen(await self._resolver(name))
            except TimeoutError:
                return self._failed(name, f"no answer within {self._timeout_seconds:g} s")
            except (OSError, UnicodeError) as error:
                return self._failed(name, getattr(error, "strerror", None) or str(error))
        if not found:
            return self._failed(name, "no address")
        if self._failing.pop(name, None) is not None:
            log.info("%s resolves again", name)
        changed = self._addresses.get(name) != found
        self._addresses[name] = found
        return changed

    def _failed(self, name: str, reason: str) -> bool:
        if name not in self._failing:
            kept = self._addresses.get(name)
            rest = f"keeping {', '.join(kept)}" if kept else "its servers get no requests until it does"
            log.warning("%s does not resolve (%s): %s", name, reason, rest)
        self._failing[name] = reason
        return False


def chosen(answer: Iterable[str]) -> tuple[str, ...]:
    """The addresses of an answer that are used: sorted, each once, of one family, at most `MAX_ADDRESSES`."""
    parsed = {ipaddress.ip_address(address) for address in answer if "%" not in address}
    v4 = sorted(address for address in parsed if isinstance(address, ipaddress.IPv4Address))
    v6 = sorted(address for address in parsed if isinstance(address, ipaddress.IPv6Address))
    return tuple(str(address) for address in (v4 or v6))[:MAX_ADDRESSES]
