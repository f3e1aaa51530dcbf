"""Which endpoints may be picked, from what is heard of them: their metrics pages, the answers, and broken connections.

    nobody listens: a refused scrape                                 -> UNREACHABLE  until a page is read
    the proxy could not connect                                      -> SUSPECT      until a page is read
    it has work, its page answers, its progress counter stands still -> WEDGED       until it moves, or on trial
    its page stopped answering, and no answer comes back either      -> SILENT       until either does
    a connection broke                                               -> SUSPECT      for a moment

Each function changes one `Member` and says whether it may be picked differently now.
"""

from math import inf

from msgspec import Struct

from stellwerk.model.fleet import Health, Member
from stellwerk.model.sample import Sample

LONGEST_STEP_SECONDS = 2.0
"""A gap between two pages counts as at most so much standing still."""
ON_TRIAL = "on trial after standing still"
RESTART_TOLERANCE_SECONDS = 1.0
"""Start times that differ by less are the same start, rounded differently."""


class HealthSettings(Struct, frozen=True):
    """When to give an endpoint up, and for how long. Seconds."""

    wedged_after_seconds: float = 5.0
    """Standing still with work for so long, plus the time that the longest prompt sent there may take to prefill."""
    prefill_floor_tokens_per_second: float = 4000.0
    """The slowest prefill that is still taken for work; engines count a prompt when all of it is done."""
    silent_after_seconds: float = 3.0
    suspect_seconds: float = 1.0
    trial_after_seconds: float = 10.0
    """A wedged server that has nothing in flight is tried with one request after so long; doubles with each failure."""
    trial_limit_seconds: float = 120.0


def has_restarted(before: Sample | None, sample: Sample) -> bool:
    """Whether another process answers now than before, so that caches are empty."""
    if before is None:
        return False
    if before.started_at is not None and sample.started_at is not None:
        return abs(sample.started_at - before.started_at) > RESTART_TOLERANCE_SECONDS
    return before.progress is not None and sample.progress is not None and sample.progress < before.progress


def heard(member: Member, sample: Sample, now: float, settings: HealthSettings) -> bool:
    """A page was read. To be called before the member takes the sample in."""
    before = member.sample
    member.failing_since = None
    moved = before is None or sample.progress is None or sample.progress != before.progress
    if moved:
        member.stuck_seconds = 0.0
        if before is not None and before.progress is not None and sample.progress is not None:
            member.has_moved = True
    elif _is_busy(member, sample):
        since = member.sampled_at
        if before is not None and not (before.running or before.waiting):
            since = max(since, member.busy_from)
        member.stuck_seconds += min(max(0.0, now - since), LONGEST_STEP_SECONDS)
    if member.health is Health.WEDGED:
        if moved:
            member.backoff_seconds = 0.0
            return _becomes(member, Health.HEALTHY, "it makes progress again")
        return _may_be_tried(member, now)
    if member.stuck_seconds > _patience(member, settings):
        return _give_up(member, now, settings)
    if member.health is Health.HEALTHY or (member.health is Health.SUSPECT and now < member.health_until < inf):
        return False
    if member.backoff_seconds and not moved:
        return _becomes(member, Health.UNKNOWN, ON_TRIAL)
    return _becomes(member, Health.HEALTHY, "")


def failed(member: Member, error: str, is_unreachable: bool, now: float, settings: HealthSettings) -> bool:
    """A page could not be read."""
    if is_unreachable:
        return _becomes(member, Health.UNREACHABLE, f"nobody listens: {error[:200]}")
    if member.failing_since is None:
        member.failing_since = now
    if not member.health.is_wanted and member.health is not Health.SUSPECT:
        return False
    is_expected = member.sample is not None or member.requests > 0
    if is_expected and now - max(member.failing_since, member.life_at) >= settings.silent_after_seconds:
        return _becomes(member, Health.SILENT, f"its metrics page stopped answering: {error[:200]}")
    return False


def answered(member: Member, now: float) -> bool:
    """An answer came back. An endpoint that nobody listens at stays so: it may be finishing."""
    member.life_at = now
    member.stuck_seconds = 0.0
    member.backoff_seconds = 0.0
    if member.health is Health.UNREACHABLE or member.health is Health.HEALTHY:
        return False
    return _becomes(member, Health.HEALTHY, "")


def refused(member: Member) -> bool:
    """The proxy could not connect to it: avoided until a page is read, but tried if there is nobody else."""
    if member.health is Health.UNREACHABLE:
        return False
    return _becomes(member, Health.SUSPECT, "the proxy could not connect")


def broke(member: Member, now: float, settings: HealthSettings) -> bool:
    """A connection to it broke."""
    if not member.health.is_wanted:
        return False
    return _becomes(member, Health.SUSPECT, "a connection broke", now + settings.suspect_seconds)


def dispatched(member: Member, now: float, settings: HealthSettings) -> bool:
    """A request goes there; if it was on trial, no other follows until that one shows something."""
    if member.backoff_seconds and member.health is Health.UNKNOWN:
        return _give_up(member, now, settings)
    return False


def elapsed(member: Member, now: float) -> bool:
    """Time passed: a suspicion ends by itself."""
    if member.health is Health.SUSPECT and now >= member.health_until:
        return _becomes(member, Health.HEALTHY, "")
    return False


def _is_busy(member: Member, sample: Sample) -> bool:
    """Whether standing still means something. Of work that others gave it only its page tells, and a counter that never
    moved may belong to a page that never changes."""
    return member.requests > 0 or (member.has_moved and (bool(sample.running) or bool(sample.waiting)))


def _patience(member: Member, settings: HealthSettings) -> float:
    return settings.wedged_after_seconds + member.longest_prompt_tokens / settings.prefill_floor_tokens_per_second


def _give_up(member: Member, now: float, settings: HealthSettings) -> bool:
    if not member.backoff_seconds:
        member.backoff_seconds = settings.trial_after_seconds
    else:
        member.backoff_seconds = min(2 * member.backoff_seconds, settings.trial_limit_seconds)
    reason = f"it has work and made no progress for {member.stuck_seconds:.1f} s"
    return _becomes(member, Health.WEDGED, reason, now + member.backoff_seconds)


def _may_be_tried(member: Member, now: float) -> bool:
    if now < member.health_until or member.requests:
        return False
    member.stuck_seconds = 0.0
    return _becomes(member, Health.UNKNOWN, ON_TRIAL)


def _becomes(member: Member, health: Health, reason: str, until: float = inf) -> bool:
    changed = member.health is not health
    member.health, member.health_reason, member.health_until = health, reason, until
    return changed
