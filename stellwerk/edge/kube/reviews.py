"""May the bearer of this token read this path? The API server knows; its answers are remembered for a while.

Two questions: TokenReview (who is it) and SubjectAccessReview (may they). Tokens are kept as digests only.
"""

import asyncio
import time
from collections import OrderedDict
from enum import Enum
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from stellwerk.control.kube.resource import ACCESS_REVIEWS, TOKEN_REVIEWS
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.errors import ApiError

MAX_TOKEN_BYTES = 16 * 1024


class Verdict(Enum):
    """What to answer."""

    ALLOWED = 200
    UNAUTHENTICATED = 401
    FORBIDDEN = 403
    UNKNOWN = 503
    """The API server did not say. Never remembered."""


class ReviewLimits(Struct, frozen=True):
    """How much is remembered, and for how long, in seconds."""

    max_answers: int = 512
    max_open: int = 16
    """Questions on their way; more are not asked."""
    allowed_seconds: float = 60.0
    refused_seconds: float = 10.0


DEFAULT_LIMITS = ReviewLimits()
_Key = tuple[bytes, str, str]


class AccessReviewer:
    """Owner of the remembered answers."""

    def __init__(self, client: KubeClient, limits: ReviewLimits = DEFAULT_LIMITS) -> None:
        self._client, self._limits = client, limits
        self._answers: OrderedDict[_Key, tuple[float, Verdict]] = OrderedDict()
        self._open: dict[_Key, asyncio.Task[Verdict]] = {}

    async def review(self, authorization: str | None, path: str, verb: str = "get") -> Verdict:
        """The verdict on a request with this Authorization header. Never raises but for cancellation."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
            return Verdict.UNAUTHENTICATED
        key = (blake2b(token.encode("utf-8", "replace"), digest_size=16).digest(), verb, path)
        until, verdict = self._answers.get(key, (0.0, Verdict.UNKNOWN))
        if time.monotonic() < until:
            return verdict
        task = self._open.get(key)
        if task is None:
            if len(self._open) >= self._limits.max_open:
                return Verdict.UNKNOWN
            task = asyncio.create_task(self._ask(key, token, path, verb), name="access review")
            self._open[key] = task
            task.add_done_callback(lambda _: self._open.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: _Key, token: str, path: str, verb: str) -> Verdict:
        try:
            verdict = await self._verdict(token, path, verb)
        except ApiError:
            return Verdict.UNKNOWN
        limits = self._limits
        seconds = limits.allowed_seconds if verdict is Verdict.ALLOWED else limits.refused_seconds
        self._answers[key] = (time.monotonic() + seconds, verdict)
        self._answers.move_to_end(key)
        while len(self._answers) > limits.max_answers:
            self._answers.popitem(last=False)
        return verdict

    async def _verdict(self, token: str, path: str, verb: str) -> Verdict:
        who = await self._status(TOKEN_REVIEWS, {"token": token})
        user = who.get("user") or {}
        if who.get("authenticated") is not True or not user.get("username"):
            return Verdict.UNAUTHENTICATED
        spec: dict[str, Any] = {"nonResourceAttributes": {"path": path, "verb": verb}, "user": user["username"]}
        spec |= {name: user[name] for name in ("groups", "uid", "extra") if user.get(name)}
        may = await self._status(ACCESS_REVIEWS, spec)
        return Verdict.ALLOWED if may.get("allowed") is True and may.get("denied") is not True else Verdict.FORBIDDEN

    async def _status(self, resource: Any, spec: dict[str, Any]) -> dict[str, Any]:
        value = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
        answer = (await self._client.create(resource, value)).get("status")
        return answer if isinstance(answer, dict) else {}
