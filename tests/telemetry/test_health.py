from stellwerk.model.fleet import Fleet, Member
from stellwerk.model.sample import Sample
from stellwerk.telemetry import health
from stellwerk.telemetry.health import HealthSettings, has_restarted
from tests.kit.fleet import endpoint, sample

SETTINGS = HealthSettings()


class Server:
    """One member and a clock."""

    def __init__(self) -> None:
        self.fleet = Fleet([endpoint("a")])
        self.member: Member = self.fleet.members[0]
        self.now = 100.0

    def page(self, running: float = 0, progress: float | None = 0, waiting: float = 0) -> bool:
        what = sample(waiting, running, progress=progress)
        changed = health.heard(self.member, what, self.now, SETTINGS)
        self.fleet.sampled(self.member, what, self.now)
        return changed

    def pages(self, seconds: float, running: float = 0, progress: float | None = 0, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.now += step
            self.page(running, progress)

    def fails(self, seconds: float = 0.0, is_unreachable: bool = False, step: float = 0.5) -> None:
        for _ in range(max(1, round(seconds / step))):
            self.now += step
            health.failed(self.member, "timed out", is_unreachable, self.now, SETTINGS)

    def send(self, prompt_tokens: int = 10) -> None:
        if not self.member.requests:
            self.member.busy_from = self.now
        self.member.requests += 1
        self.member.longest_prompt_tokens = max(self.member.longest_prompt_tokens, prompt_tokens)
        health.dispatched(self.member, self.now, SETTINGS)

    @property
    def state(self) -> str:
        return self.member.health.value


def test_a_page_makes_an_unknown_server_healthy() -> None:
    server = Server()
    assert server.state == "unknown"
    assert server.page()
    assert server.state == "healthy"
    assert not server.page()


def test_a_server_with_work_that_makes_no_progress_is_wedged_until_it_does() -> None:
    server = Server()
    server.page()
    server.send()
    server.pages(4.5, running=1, progress=7)
    assert server.state == "healthy"
    server.pages(2.0, running=1, progress=7)
    assert server.state == "wedged"
    assert "no progress" in server.member.health_reason
    server.pages(0.25, running=1, progress=8)
    assert server.state == "healthy"


def test_an_idle_server_is_not_wedged_and_idle_time_does_not_count() -> None:
    server = Server()
    server.pages(60.0, running=0, progress=7, step=5.0)
    server.now += 4.9
    server.send()
    server.now += 0.1
    server.page(running=1, progress=7)
    server.pages(4.0, running=1, progress=7)
    assert server.state == "healthy"


def test_clients_that_give_up_early_do_not_hide_a_wedged_server() -> None:
    server = Server()
    server.page(progress=7)
    for _ in range(10):
        server.send()
        server.pages(1.0, running=1, progress=7)
        server.member.requests -= 1
        server.pages(1.0, running=0, progress=7)
    assert server.state in ("wedged", "unknown")
    assert server.member.backoff_seconds > 0


def test_a_long_prompt_is_given_time() -> None:
    server = Server()
    server.page(progress=7)
    server.send(prompt_tokens=100_000)
    server.pages(25.0, running=1, progress=7)
    assert server.state == "healthy"
    server.pages(10.0, running=1, progress=7)
    assert server.state == "wedged"


def test_a_server_that_does_not_tell_progress_is_never_wedged() -> None:
    server = Server()
    server.page(progress=None)
    server.send()
    server.pages(60.0, running=1, progress=None)
    assert server.state == "healthy"


def test_a_page_that_never_changes_proves_nothing_until_a_request_is_sent_there() -> None:
    server = Server()
    server.pages(1.0, running=3, progress=None)
    server.pages(60.0, running=3, progress=7)
    assert server.state == "healthy"
    server.send()
    server.pages(6.0, running=3, progress=7)
    assert server.state == "wedged"


def test_a_server_that_worked_for_others_and_stands_still_is_wedged() -> None:
    server = Server()
    server.pages(1.0, running=3, progress=7)
    server.pages(6.0, running=3, progress=8)
    assert server.state == "wedged"


def test_an_answer_that_comes_back_is_progress() -> None:
    server = Server()
    server.page(progress=7)
    server.send()
    for _ in range(10):
        server.pages(3.0, running=1, progress=7)
        health.answered(server.member, server.now)
    assert server.state == "healthy"


def test_a_wedged_server_is_tried_with_one_request_at_a_time_and_less_often_each_time() -> None:
    server = Server()
    server.page(progress=7)
    server.send()
    server.pages(6.0, running=1, progress=7)
    server.member.requests = 0
    server.pages(8.0, running=0, progress=7)
    assert server.state == "wedged"
    server.pages(4.0, running=0, progress=7)
    assert server.state == "unknown"
    server.send()
    assert server.state == "wedged"
    server.member.requests = 0
    server.pages(15.0, running=0, progress=7)
    assert server.state == "wedged"
    server.pages(6.0, running=0, progress=7)
    assert server.state == "unknown"
    health.answered(server.member, server.now)
    assert server.state == "healthy"
    assert server.member.backoff_seconds == 0


def test_a_wedged_server_that_was_away_for_a_moment_is_on_trial_again() -> None:
    server = Server()
    server.page(progress=7)
    server.send()
    server.pages(6.0, running=1, progress=7)
    server.member.requests = 0
    server.pages(11.0, running=0, progress=7)
    server.fails(is_unreachable=True)
    assert server.state == "unreachable"
    server.pages(1.0, running=0, progress=7)
    assert server.state == "unknown"
    server.send()
    assert server.state == "wedged"


def test_nobody_listening_takes_effect_at_once_and_ends_with_a_page() -> None:
    server = Server()
    server.page()
    server.fails(is_unreachable=True)
    assert server.state == "unreachable"
    assert not health.answered(server.member, server.now)
    server.fails()
    assert server.state == "unreachable"
    assert server.page()
    assert server.state == "healthy"


def test_a_page_that_hangs_is_forgiven_for_a_moment_and_as_long_as_answers_come() -> None:
    server = Server()
    server.page()
    server.fails(2.0)
    assert server.state == "healthy"
    health.answered(server.member, server.now)
    server.fails(2.5)
    assert server.state == "healthy"
    server.fails(1.5)
    assert server.state == "silent"
    health.answered(server.member, server.now)
    assert server.state == "healthy"


def test_a_server_without_a_metrics_page_may_be_picked() -> None:
    server = Server()
    server.fails(60.0)
    assert server.state == "unknown"


def test_a_connection_that_broke_costs_a_moment_and_one_that_failed_costs_until_the_next_page() -> None:
    server = Server()
    server.page()
    assert health.broke(server.member, server.now, SETTINGS)
    assert server.state == "suspect"
    server.now += 0.5
    server.page()
    assert server.state == "suspect"
    assert not health.elapsed(server.member, server.now)
    server.now += 0.6
    assert health.elapsed(server.member, server.now)
    assert server.state == "healthy"
    assert health.refused(server.member)
    assert server.state == "suspect"
    assert not health.elapsed(server.member, server.now + 60.0)
    assert server.page()
    assert server.state == "healthy"


def test_a_restart_shows_in_the_start_time_or_in_a_counter_that_falls() -> None:
    assert not has_restarted(None, Sample(started_at=5.0))
    assert not has_restarted(Sample(started_at=5.0, progress=9), Sample(started_at=5.0004, progress=10))
    assert has_restarted(Sample(started_at=5.0), Sample(started_at=50.0))
    assert has_restarted(Sample(progress=9), Sample(progress=3))
    assert not has_restarted(Sample(progress=9), Sample(progress=9))
    assert not has_restarted(Sample(progress=9), Sample())
