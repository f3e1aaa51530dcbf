"""The supervisor with real child processes."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stellwerk.edge.supervisor import Pauses, Program, Supervisor, how_it_ended
from tests.kit.processes import wait_until

DEADLINE_SECONDS = 20.0
ROOT = Path(__file__).parents[2]


def python(source: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(source), *arguments)


SLEEPER = python("import time; print('up', flush=True); time.sleep(600)")
STUBBORN = python(
    """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    time.sleep(600)
    """
)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not check():  # noqa: ASYNC110 - what is waited for sends no event
            await asyncio.sleep(0.01)


def supervised(supervisor: Supervisor, story: Callable[[], Awaitable[None]]) -> None:
    """Run the supervisor while the story unfolds, stop it, and expect it to come to an end."""

    async def main() -> None:
        running = asyncio.create_task(supervisor.run(handle_signals=False))
        try:
            await story()
        finally:
            supervisor.stop()
            await asyncio.wait_for(running, DEADLINE_SECONDS)

    asyncio.run(main())


def test_a_child_that_dies_is_started_again_at_once() -> None:
    supervisor = Supervisor([Program("child", SLEEPER)], pauses=Pauses(first_seconds=60.0))

    async def story() -> None:
        await until(lambda: supervisor.pid("child"))
        first = supervisor.pid("child")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pid("child") not in (None, first))
        assert supervisor.restarts == {"child": 1}

    supervised(supervisor, story)


def test_a_child_that_keeps_dying_gets_pauses_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses(first_seconds=0.01, most_seconds=0.02)
    supervisor = Supervisor([Program("child", python("raise SystemExit(3)"))], pauses=pauses)

    async def story() -> None:
        await until(lambda: supervisor.restarts["child"] >= 4)

    supervised(supervisor, story)
    assert any("child exited with code 3" in line and "in 0.02 s" in line for line in caplog.messages)


def test_pauses_double_up_to_the_most() -> None:
    pauses = Pauses(first_seconds=0.5, most_seconds=3.0)
    assert [pauses.before(number) for number in range(6)] == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert pauses.before(10_000) == 3.0


def test_a_child_that_stood_long_enough_has_no_record() -> None:
    source = "import time; time.sleep(0.3)"
    supervisor = Supervisor([Program("child", python(source))], pauses=Pauses(60.0, 60.0, stable_seconds=0.2))

    async def story() -> None:
        await until(lambda: supervisor.restarts["child"] >= 2)

    supervised(supervisor, story)


def test_the_other_child_is_left_alone() -> None:
    supervisor = Supervisor([Program("a", SLEEPER), Program("b", SLEEPER)])

    async def story() -> None:
        await until(lambda: supervisor.pid("a") and supervisor.pid("b"))
        a, b = supervisor.pid("a"), supervisor.pid("b")
        assert a is not None
        os.kill(a, signal.SIGKILL)
        await until(lambda: supervisor.pid("a") not in (None, a))
        assert supervisor.pid("b") == b

    supervised(supervisor, story)


def test_stopping_drains_first_and_then_ends_the_children_in_order() -> None:
    order: list[str] = []
    say = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("ended", flush=True), sys.exit(0)))
        print("up", flush=True)
        time.sleep(600)
        """

    async def drain() -> None:
        order.append("drained")
        assert all(supervisor.pid(name) for name in ("a", "b"))

    programs = [Program(name, python(say), lambda line, name=name: order.append(f"{name} {line}")) for name in "ab"]  # type: ignore[misc]
    supervisor = Supervisor(programs, drain)

    async def story() -> None:
        await until(lambda: {"a up", "b up"} <= set(order))

    supervised(supervisor, story)
    assert order[2:] == ["drained", "a ended", "b ended"]


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    lines: list[str] = []
    supervisor = Supervisor([Program("child", STUBBORN, lines.append, stop_seconds=0.1)])
    pids: list[int | None] = []

    async def story() -> None:
        await until(lambda: lines)
        pids.append(supervisor.pid("child"))

    supervised(supervisor, story)
    assert pids[0] is not None
    assert not alive(pids[0])


def test_stopping_twice_ends_everything_at_once() -> None:
    lines: list[str] = []

    async def drain() -> None:
        await asyncio.sleep(600)

    supervisor = Supervisor([Program("child", STUBBORN, lines.append, stop_seconds=600.0)], drain)

    async def story() -> None:
        await until(lambda: lines)
        supervisor.stop()
        await asyncio.sleep(0)

    supervised(supervisor, story)


def test_a_dead_childs_own_children_go_with_it() -> None:
    lines: list[str] = []
    source = """
        import subprocess, sys, time
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        time.sleep(600)
        """
    supervisor = Supervisor([Program("child", python(source), lines.append)])

    async def story() -> None:
        await until(lambda: lines)
        assert alive(int(lines[0]))

    supervised(supervisor, story)
    wait_until("the grandchild to end", lambda: not alive(int(lines[0])))


def test_output_comes_line_by_line_and_is_bounded() -> None:
    lines: list[str] = []
    source = r"""
        import sys, time
        sys.stdout.buffer.write(b"one\n\ntwo\xff\n" + b"x" * 200_000 + b"\nlast")
        sys.stdout.flush()
        sys.stderr.write("\nerror\n")
        sys.stderr.flush()
        time.sleep(600)
        """
    supervisor = Supervisor([Program("child", python(source), lines.append)])

    async def story() -> None:
        await until(lambda: "error" in lines)

    supervised(supervisor, story)
    assert lines[:2] == ["one", "two�"]
    assert "last" in lines
    assert max(map(len, lines)) <= 128 * 1024
    assert sum(len(line) for line in lines if set(line) == {"x"}) == 200_000


def test_endings_are_told_in_words() -> None:
    assert how_it_ended(3) == "exited with code 3"
    assert how_it_ended(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert how_it_ended(-999) == "was killed by signal 999"


def test_a_program_that_cannot_be_started_is_an_error_and_the_others_are_ended() -> None:
    supervisor = Supervisor([Program("a", SLEEPER), Program("b", ("/nonexistent/program",))])

    async def main() -> None:
        await asyncio.wait_for(supervisor.run(handle_signals=False), DEADLINE_SECONDS)

    with pytest.raises(FileNotFoundError, match="/nonexistent/program"):
        asyncio.run(main())
    pid = supervisor.pid("a")
    assert pid is None or not alive(pid)


PARENT = """
    import asyncio, sys
    from stellwerk.edge.supervisor import Program, Supervisor
    {prepare}
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    outer = sys.argv[1] if len(sys.argv) > 1 else None
    program = Program("child", (sys.executable, "-c", outer or inner), lambda line: print(line, flush=True))
    asyncio.run(Supervisor([program]).run())
    """


def started(source: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A supervising process, and the pid that its innermost child printed."""
    process = subprocess.Popen(
        python(source, *arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("loop", ["", "import uvloop; uvloop.install()"], ids=["asyncio", "uvloop"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_die_with_a_parent_that_is_killed(loop: str) -> None:
    process, child = started(PARENT.format(prepare=loop))
    with process:
        assert alive(child)
        process.kill()
        process.wait()
        wait_until("the child to end", lambda: not alive(child))


def test_grandchildren_under_a_supervisor_die_as_well() -> None:
    nested = textwrap.dedent(PARENT.format(prepare=""))
    process, grandchild = started(PARENT.format(prepare=""), nested)
    with process:
        assert alive(grandchild)
        process.kill()
        process.wait()
        wait_until("the grandchild to end", lambda: not alive(grandchild))


def test_sigterm_ends_parent_and_child_in_order() -> None:
    process, child = started(PARENT.format(prepare=""))
    with process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert not alive(child)


def test_a_second_signal_does_not_wait() -> None:
    slow = PARENT.replace("Supervisor([program])", "Supervisor([program], lambda: asyncio.sleep(600))")
    process, child = started(slow.format(prepare=""))
    with process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert not alive(child)
