"""Hostnames of listeners and routes: which ones a pattern covers, and what two of them have in common.

A pattern is a name, a wildcard `*.example.com` (any number of labels in place of the star, at least one), or `*`, which
is what a listener without a hostname has. Gateway API: Hostname, and "Hostname matching" of HTTPRoute.
"""

from collections.abc import Iterable

ANY = "*"


def covers(pattern: str, hostname: str) -> bool:
    """Whether every name that `hostname` (a name or a pattern) stands for is also one of `pattern`."""
    if pattern in (ANY, hostname):
        return True
    return pattern.startswith("*.") and hostname.removeprefix("*").endswith(pattern[1:]) and hostname != pattern[2:]


def common(one: str, other: str) -> str | None:
    """The narrower of the two where they overlap; None where they do not."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def specificity(pattern: str) -> tuple[int, int]:
    """Greater is more specific: characters without a wildcard first, then all of them."""
    return (0 if pattern.startswith("*") else len(pattern), len(pattern))


def most_specific(patterns: Iterable[str], hostname: str) -> str | None:
    """Which of `patterns` speaks for `hostname`; None if none covers it."""
    return max((each for each in patterns if covers(each, hostname)), key=specificity, default=None)
