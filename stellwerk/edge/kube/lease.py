"""Leader election by a Lease: one of several replicas leads, and another takes over when it stops renewing.

A holder counts as alive while its record changes, measured by our own clock from when we saw it change: clocks of
different machines are never compared.

Two questions, two answers: `is_leader` ends when renewing fails, for those who write; `led_last` lasts until somebody
else is seen to lead, for those who serve, and whom a silent API server must not stop.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from stellwerk.control.kube.resource import LEASES, Object
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.errors import ApiError
from stellwerk.model.chance import Chance

log = logging.getLogger("stellwerk.kube")


class LeasePace(Struct, frozen=True):
    """In seconds. A standby leads at most `lease_seconds` + 1.2 * `retry_seconds` after the leader's last renewal, and
    within 1.2 * `retry_seconds` of a leader that says goodbye."""

    lease_seconds: int = 8
    """How long others wait for a leader that is silent."""
    deadline_seconds: float = 5.0
    """A leader that could not renew for so long stops leading: before anybody else starts."""
    retry_seconds: float = 1.0
    """Between two renewals, or two looks at the leader."""


DEFAULT_PACE = LeasePace()


class LeaseCounts(Struct):
    """Since the start; read by metrics."""

    renewals: int = 0
    failures: int = 0
    changes: int = 0
    """Times that leadership began or ended here."""


class Election:
    """One candidate. `is_leader` and `led_last` are safe to read at any time."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        namespace: str,
        identity: str,
        pace: LeasePace = DEFAULT_PACE,
        chance: Chance | None = None,
    ) -> None:
        """`identity` must differ between replicas: the Pod's name and something random."""
        self.counts = LeaseCounts()
        self.holder = ""
        """Who leads, as last seen."""
        self.error = ""
        """Why the last attempt failed."""
        self.led_last = False
        """Whether we lead, or led until the API server went away and saw nobody follow. Two may say so for a moment."""
        self._client, self._name, self._namespace, self._identity = client, name, namespace, identity
        self._pace, self._chance = pace, chance or random.Random()
        self._seen: tuple[Any, ...] = ()
        self._seen_at = float("-inf")
        self._renewed_at = float("-inf")
        self._is_leading = False

    @property
    def is_leader(self) -> bool:
        """Whether we lead right now."""
        return self._is_leading and time.monotonic() < self._renewed_at + self._pace.deadline_seconds

    async def run(self, on_change: Callable[[], None]) -> None:
        """Take part until cancelled; then give the lease back. `on_change` is told when `is_leader` or `led_last` is
        different."""
        try:
            while True:
                before = self._is_leading, self.led_last
                await self._attempt()
                if before != (self._is_leading, self.led_last):
                    on_change()
                await asyncio.sleep(self._pace.retry_seconds * (0.8 + 0.4 * self._chance.random()))
        finally:
            had = self.led_last
            self._lead(False)
            self.led_last, self.holder = False, ""
            if had:
                on_change()
                await self._release()

    async def _attempt(self) -> None:
        """Renew or acquire, and notice when it is too late for either."""
        left = self._renewed_at + self._pace.deadline_seconds - time.monotonic()
        limit = left if self._is_leading else self._pace.deadline_seconds
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, limit)):
                holds = await self._take()
        except (ApiError, TimeoutError) as error:
            self._failed(error)
            if self._is_leading and not self.is_leader:
                self._lead(False)
            return
        self.error = ""
        if holds:
            self.counts.renewals += 1
            self._renewed_at = began
        self._lead(holds)

    def _failed(self, error: Exception) -> None:
        self.counts.failures += 1
        if not self.error:
            log.warning("lease %s/%s: %s", self._namespace, self._name, error or "no answer in time")
        self.error = str(error) or "no answer in time"

    def _lead(self, leads: bool) -> None:
        if leads != self._is_leading:
            self._is_leading = leads
            self.counts.changes += 1
            log.info("leading" if leads else "no longer leading", extra={"fields": {"lease": self._name}})

    async def _take(self) -> bool:
        """Whether the lease is ours now."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return await self._write(None)
        spec = lease.get("spec") or {}
        self._look_at(spec)
        seconds = spec.get("leaseDurationSeconds") or self._pace.lease_seconds
        is_free = not self.holder or time.monotonic() - self._seen_at >= seconds
        if self.holder != self._identity and not is_free:
            return False
        return await self._write(lease)

    def _look_at(self, spec: Object) -> None:
        """Who leads, and whether that is somebody who lives."""
        self.holder = spec.get("holderIdentity") or ""
        mark = (self.holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if mark == self._seen:
            return
        if self.holder == self._identity:
            self.led_last = True
        elif self.holder and self._seen[:1] == (self.holder,):
            # Seen to renew. A record alone may be a dead leader's, out of a backup.
            self.led_last = False
        self._seen, self._seen_at = mark, time.monotonic()

    async def _write(self, lease: Object | None) -> bool:
        """Claim or renew; False if somebody else was quicker."""
        now = _now()
        spec = dict((lease or {}).get("spec") or {})
        is_ours = spec.get("holderIdentity") == self._identity
        transitions = spec.get("leaseTransitions") or 0
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._pace.lease_seconds,
            "acquireTime": spec.get("acquireTime") if is_ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if is_ours or lease is None else transitions + 1,
        }
        try:
            if lease is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                made = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
                await self._client.create(LEASES, made)
            else:
                await self._client.replace(LEASES, {**lease, "spec": spec})
        except ApiError as error:
            if error.is_conflict:
                return False
            raise
        self.holder, self.led_last = self._identity, True
        return True

    async def _release(self) -> None:
        """So that the next leader need not wait; as well as it goes."""
        try:
            async with asyncio.timeout(self._pace.deadline_seconds):
                lease = await self._client.get(LEASES, self._name, self._namespace)
                if lease["spec"].get("holderIdentity") == self._identity:
                    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await self._client.replace(LEASES, {**lease, "spec": spec})
        except (ApiError, TimeoutError, KeyError) as error:
            log.info("lease %s/%s was not given back: %s", self._namespace, self._name, error)


def _now() -> str:
    """As Kubernetes writes MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
