"""What is known of streams that are over."""

from stellwerk.edge.grpc.past import Ended, Past


def test_an_id_that_was_never_opened_is_told_from_one_that_ended() -> None:
    past = Past()
    past.add(5, Ended.BY_US)
    assert past.how(5) is Ended.BY_US
    assert past.how(3) is Ended.NEVER_OPENED
    assert past.how(7) is Ended.NEVER_OPENED


def test_only_the_latest_are_remembered_and_older_ones_are_not_confused_with_new_ones() -> None:
    past = Past()
    for stream_id in range(1, 20_001, 2):
        past.add(stream_id, Ended.BY_BOTH)
    assert past.how(1) is Ended.LONG_AGO
    assert past.how(2) is Ended.NEVER_OPENED
    assert past.how(19_999) is Ended.BY_BOTH
    assert past.how(20_001) is Ended.NEVER_OPENED
    assert len(past._how) <= 4_096
