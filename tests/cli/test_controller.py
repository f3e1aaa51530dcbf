"""Arguments that `stellwerk controller` hands on to gateway pods."""

import click
import pytest

from stellwerk.cli.controller import drain_seconds
from stellwerk.config import Timeouts


def test_pods_drain_for_as_long_as_their_arguments_say() -> None:
    assert drain_seconds(()) == Timeouts().drain_seconds
    assert drain_seconds(("--trust-identity-from", "10.0.0.0/8", "--drain-timeout=1m30s")) == 90.0
    assert drain_seconds(("--drain-timeout", "10s", "--drain-timeout", "20s")) == 20.0


@pytest.mark.parametrize("arguments", [("--drain-timeout", "soon"), ("--trust-identity", "10.0.0.0/8"), ("more",)])
def test_an_argument_that_would_end_all_pods_is_refused_at_once(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.BadParameter, match=arguments[0].strip("-")) as said:
        drain_seconds(arguments)
    assert said.value.param_hint == "--gateway-arg"
