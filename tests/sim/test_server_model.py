"""The engine in virtual time: batching, budget, cache, preemption, adapters, aborts; and that nothing is ever lost."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.sim.job import Event, Finished, FirstToken, Job, Preempted, Stepped
from stellwerk.sim.server_model import ServerModel
from stellwerk.sim.shape import SPEEDS, Shape, StepTime

UNIT = StepTime(base_seconds=1.0)


def hashes_of(*parts: tuple[int, int]) -> list[int]:
    """Block hashes as a chain: (what, how many blocks) after one another."""
    chain: list[int] = []
    seed = 0
    for what, count in parts:
        for i in range(count):
            seed = hash((seed, what, i))
            chain.append(seed)
    return chain


def shape(**fields: object) -> Shape:
    """A small server whose steps take one second."""
    base: dict[str, object] = {
        "step": UNIT,
        "block_size": 4,
        "block_count": 64,
        "max_sequences": 8,
        "max_batched_tokens": 32,
    }
    return Shape(**(base | fields))  # type: ignore[arg-type]


def run_out(model: ServerModel, limit: float = 1e9) -> list[Event]:
    """Advance until nothing is left."""
    events: list[Event] = []
    while (at := model.next_time()) is not None:
        assert at < limit
        events += model.advance(at)
    return events


def finished(events: list[Event]) -> dict[int, Finished]:
    """The jobs that ended, by id; each once."""
    ended = [event for event in events if isinstance(event, Finished)]
    assert len({event.id for event in ended}) == len(ended)
    return {event.id: event for event in ended}


def test_one_request_takes_a_prefill_and_a_step_per_further_token() -> None:
    model = ServerModel(shape())
    model.submit(Job(1, 10, 4), 5.0)
    events = run_out(model)
    assert events[0] == FirstToken(1, 6.0)
    end = finished(events)[1]
    assert (end.at, end.arrived_at, end.scheduled_at, end.first_token_at) == (9.0, 5.0, 5.0, 6.0)
    assert (end.prompt_tokens, end.output_tokens, end.cached_tokens) == (10, 4, 0)
    assert model.pool.used == 0


def test_a_request_with_one_token_ends_with_its_prefill_and_pooling_makes_none() -> None:
    model = ServerModel(shape())
    model.submit(Job(1, 3, 1), 0.0)
    model.submit(Job(2, 3, 0), 0.0)
    events = run_out(model)
    assert {event.id for event in events if isinstance(event, FirstToken)} == {1}
    assert [end.at for end in finished(events).values()] == [1.0, 1.0]
    assert model.counters.generated_tokens == 1


def test_the_step_time_is_the_linear_formula() -> None:
    step = StepTime(
        base_seconds=1.0,
        per_sequence_seconds=0.1,
        per_context_token_seconds=0.001,
        prefill_tokens_per_second=100.0,
    )
    model = ServerModel(shape(step=step))
    model.submit(Job(1, 20, 3), 0.0)
    ends = [event.at for event in run_out(model)]
    first = 1.0 + 0.1 + 20 / 100.0
    assert ends[0] == pytest.approx(first)
    assert ends[1] == pytest.approx(first + 2 * 1.1 + 0.001 * (20 + 21))
    model.submit(Job(2, 20, 3), 100.0)
    model.advance(100.0)
    model.submit(Job(3, 20, 30), 100.0)
    model.advance(105.0)
    model.abort(3)
    model.submit(Job(4, 20, 3), 1_000.0)
    assert finished(run_out(model))[4].at - 1_000.0 == pytest.approx(ends[1])


def test_a_long_prefill_is_cut_into_chunks_that_leave_room_for_decodes() -> None:
    model = ServerModel(shape(max_batched_tokens=9), reports_steps=True)
    model.submit(Job(1, 4, 10), 0.0)
    model.advance(1.0)
    model.submit(Job(2, 20, 1), 1.0)
    steps = [event for event in run_out(model) if isinstance(event, Stepped)]
    assert [(one.decodes, one.prefill_tokens) for one in steps[:4]] == [(1, 0), (1, 8), (1, 8), (1, 4)]


def test_the_batch_is_bounded_and_the_queue_is_first_come_first_served() -> None:
    model = ServerModel(shape(max_sequences=2))
    for number in range(5):
        model.submit(Job(number, 2, 3), 0.0)
    model.advance(0.0)
    assert (model.running, model.waiting) == (2, 3)
    starts = [end.scheduled_at for end in finished(run_out(model)).values()]
    assert starts == [0.0, 0.0, 3.0, 3.0, 6.0]


def test_a_repeated_prompt_is_computed_once_except_for_its_last_token() -> None:
    model = ServerModel(shape())
    chain = hashes_of((1, 4))
    model.submit(Job(1, 16, 1, chain), 0.0)
    run_out(model)
    model.submit(Job(2, 16, 1, chain), 10.0)
    assert finished(run_out(model))[2].cached_tokens == 12
    assert model.counters.hit_tokens == 12
    assert model.counters.queried_tokens == 32


def test_a_conversation_finds_its_own_answer_in_the_cache() -> None:
    model = ServerModel(shape())
    turn = hashes_of((1, 2), (2, 2))
    model.submit(Job(1, 8, 9, turn), 0.0)
    run_out(model)
    model.submit(Job(2, 20, 1, turn + hashes_of((1, 2), (2, 2), (3, 1))[4:]), 20.0)
    assert finished(run_out(model))[2].cached_tokens == 16


def test_without_a_prefix_cache_nothing_is_found() -> None:
    model = ServerModel(shape(has_prefix_cache=False))
    for number in range(2):
        model.submit(Job(number, 16, 1, hashes_of((1, 4))), 10.0 * number)
        assert finished(run_out(model))[number].cached_tokens == 0


def test_requests_at_the_same_time_share_what_the_first_has_computed() -> None:
    model = ServerModel(shape())
    chain = hashes_of((1, 4))
    model.submit(Job(1, 16, 8, chain), 0.0)
    model.advance(1.0)
    model.submit(Job(2, 16, 8, chain), 1.0)
    model.advance(2.0)
    assert model.pool.used == 5 + 1
    run_out(model)
    assert model.pool.used == 0


def test_when_blocks_run_out_the_youngest_starts_over_and_still_finishes() -> None:
    model = ServerModel(shape(block_count=8))
    model.submit(Job(1, 12, 16), 0.0)
    model.submit(Job(2, 12, 16), 0.0)
    events = run_out(model)
    assert {event.id for event in events if isinstance(event, Preempted)} == {2}
    ends = finished(events)
    assert ends[1].preemptions == 0
    assert ends[2].preemptions == model.counters.preemptions > 0
    assert model.counters.generated_tokens == 32
    assert [event.id for event in events if isinstance(event, FirstToken)].count(2) == 1


def test_a_preempted_request_computes_prompt_and_answer_again_before_others_start() -> None:
    model = ServerModel(shape(block_count=8, max_sequences=2), reports_steps=True)
    model.submit(Job(1, 12, 16), 0.0)
    model.submit(Job(2, 12, 16), 0.0)
    model.submit(Job(3, 12, 1), 0.0)
    events = run_out(model)
    lost = next(event.at for event in events if isinstance(event, Preempted))
    made_before = int(lost)
    prefills = [event.prefill_tokens for event in events if isinstance(event, Stepped) and event.prefill_tokens]
    assert prefills == [24, 12 + made_before + 12]
    ends = finished(events)
    assert ends[3].scheduled_at >= ends[1].at


def test_adapters_wait_for_a_slot_without_holding_up_others() -> None:
    step = StepTime(base_seconds=1.0, adapter_load_seconds=5.0)
    model = ServerModel(shape(step=step, max_adapters=1))
    model.submit(Job(1, 2, 3, adapter="a"), 0.0)
    model.submit(Job(2, 2, 3, adapter="b"), 0.0)
    model.submit(Job(3, 2, 3), 0.0)
    model.advance(0.0)
    assert (model.running_adapters(), model.waiting_adapters(), model.waiting_for_adapter()) == (("a",), ("b",), 1)
    assert (model.running, model.waiting) == (2, 1)
    ends = finished(run_out(model))
    assert ends[1].at == ends[3].at == 8.0
    assert ends[2].scheduled_at == 8.0
    assert ends[2].at == 8.0 + 5.0 + 3.0
    assert model.adapters.resident == ("b",)
    assert model.counters.adapter_loads == 2


def test_a_resident_adapter_is_not_loaded_again_until_it_was_unloaded() -> None:
    model = ServerModel(shape(max_adapters=2))
    for number, unload in enumerate((False, False, True)):
        if unload:
            model.adapters.unload("a")
        model.submit(Job(number, 2, 1, adapter="a"), 10.0 * number)
        run_out(model)
        assert model.counters.adapter_loads == 1 + unload


def test_an_abort_frees_everything_in_every_phase() -> None:
    model = ServerModel(shape(max_sequences=2, max_batched_tokens=8, max_adapters=1))
    model.submit(Job(1, 4, 20, adapter="a"), 0.0)
    model.submit(Job(2, 20, 5), 0.0)
    model.submit(Job(3, 4, 5), 0.0)
    model.advance(2.0)
    assert (model.running, model.waiting) == (2, 1)
    assert all(model.abort(number) for number in (1, 2, 3))
    assert not model.abort(3)
    assert (model.running, model.waiting, model.pool.used, model.running_adapters()) == (0, 0, 0, ())
    assert run_out(model) == []
    model.submit(Job(4, 4, 2), 50.0)
    assert finished(run_out(model))[4].at == 52.0


def test_a_stalled_engine_does_nothing_and_goes_on_afterwards() -> None:
    model = ServerModel(shape())
    model.submit(Job(1, 4, 4), 0.0)
    model.advance(2.5)
    model.stall()
    assert model.next_time() is None
    assert model.advance(100.0) == []
    assert model.generated(1) == 2
    model.resume(100.0)
    assert finished(run_out(model))[1].at == 101.0


def test_a_slow_engine_takes_longer_for_the_steps_that_follow() -> None:
    model = ServerModel(shape())
    model.submit(Job(1, 4, 3), 0.0)
    model.advance(0.0)
    model.slowness = 10.0
    assert finished(run_out(model))[1].at == 1.0 + 20.0


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (Job(1, 0, 4), "0 prompt"),
        (Job(1, 4, -1), "-1 output"),
        (Job(1, 200, 100), "300 tokens: there is 256"),
        (Job(1, 4, 4, adapter="a"), "no adapter slots"),
    ],
)
def test_a_job_that_can_never_run_is_refused(job: Job, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ServerModel(shape()).submit(job, 0.0)


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batched_tokens"):
        ServerModel(shape(max_batched_tokens=4))


@dataclass
class Traffic:
    """Random requests: some share prefixes, some want adapters, some are aborted."""

    jobs: list[tuple[float, Job]] = field(default_factory=list)
    aborts: dict[int, float] = field(default_factory=dict)


def traffic(seed: int, count: int, shape: Shape) -> Traffic:
    """Seeded traffic that fits the shape."""
    rng, made, at = random.Random(seed), Traffic(), 0.0
    for number in range(count):
        at += rng.choice([0.0, 0.3, 1.0, 7.0])
        prompt, output = rng.randrange(1, 60), rng.choice([0, 1, 2, rng.randrange(1, 40)])
        shared = rng.randrange(0, 12)
        chain = hashes_of((rng.randrange(3), shared), (1_000 + number, 30))
        adapter = rng.choice(["", "", "a", "b", "c"]) if shape.max_adapters else ""
        full = (prompt + output) // shape.block_size
        made.jobs.append((at, Job(number, prompt, output, tuple(chain[:full]), adapter)))
        if rng.random() < 0.2:
            made.aborts[number] = at + rng.random() * 30
    return made


def drive(model: ServerModel, made: Traffic, *, checks: bool = False) -> list[Event]:
    """Play traffic to its end, looking at the model at every step."""
    moves = [(at, 0, job) for at, job in made.jobs]
    moves += [(made.aborts[job.id], 1, job) for _, job in made.jobs if job.id in made.aborts]
    events: list[Event] = []
    for at, is_abort, job in sorted(moves, key=lambda move: (move[0], move[1], move[2].id)):
        while checks and (next_at := model.next_time()) is not None and next_at <= at:
            events += model.advance(next_at)
            look(model)
        events += model.advance(at)
        if is_abort:
            model.abort(job.id)
        else:
            model.submit(job, at)
        look(model)
    return events + run_out(model)


def look(model: ServerModel) -> None:
    """What must hold between any two steps."""
    model.pool.check()
    assert model.running <= model.shape.max_sequences
    assert len(model.running_adapters()) <= model.shape.max_adapters
    assert set(model.running_adapters()) <= set(model.adapters.resident)
    assert len(model.adapters.resident) <= model.shape.max_adapters
    assert 0.0 <= model.kv_use <= 1.0


SHAPES = st.builds(
    shape,
    block_count=st.integers(25, 60),
    max_sequences=st.integers(1, 6),
    max_batched_tokens=st.integers(6, 40),
    max_adapters=st.integers(0, 2),
    block_size=st.sampled_from([4, 5, 16]),
)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 10_000), st.integers(1, 25))
def test_whatever_comes_every_request_ends_once_and_everything_is_given_back(
    small: Shape, seed: int, count: int
) -> None:
    model, made = ServerModel(small, reports_steps=True), traffic(seed, count, small)
    events = drive(model, made, checks=True)
    ends = finished(events)
    assert {job.id for _, job in made.jobs} - ends.keys() <= made.aborts.keys()
    assert (model.running, model.waiting, model.pool.used) == (0, 0, 0)
    model.pool.check()
    for event in events:
        if isinstance(event, Stepped):
            assert event.decodes + event.prefill_tokens <= small.max_batched_tokens
    for _, job in made.jobs:
        end = ends.get(job.id)
        if end is not None:
            assert end.arrived_at <= end.scheduled_at <= end.first_token_at <= end.at
            assert end.cached_tokens < job.prompt_tokens
            assert end.cached_tokens % small.block_size == 0
    if not made.aborts:
        assert model.counters.generated_tokens == sum(job.output_tokens for _, job in made.jobs)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 10_000), st.integers(1, 25))
def test_cached_tokens_are_a_prefix_that_an_earlier_request_had(small: Shape, seed: int, count: int) -> None:
    made = traffic(seed, count, small)
    seen: set[int] = set()
    ends = finished(drive(ServerModel(small), made))
    for at, job in made.jobs:
        end = ends.get(job.id)
        if end is not None:
            hits = job.block_hashes[: end.cached_tokens // small.block_size]
            others = {
                h
                for begun, other in made.jobs
                if other.id != job.id and begun <= end.scheduled_at
                for h in other.block_hashes
            }
            assert set(hits) <= others | seen, at


class Plain(ServerModel):
    """The same engine one step at a time."""

    def _leap(self, now: float) -> None:
        return


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 10_000), st.integers(1, 25), st.sampled_from(["h100-8b", "laptop", "instant"]))
def test_leaping_over_decode_steps_changes_nothing(small: Shape, seed: int, count: int, speed: str) -> None:
    timed = shape(
        **{name: getattr(small, name) for name in small.__struct_fields__ if name != "step"}, step=SPEEDS[speed].step
    )
    made = traffic(seed, count, timed)
    leaping, plain = ServerModel(timed), Plain(timed)
    assert drive(leaping, made) == drive(plain, made, checks=True)
    assert leaping.counters == plain.counters
