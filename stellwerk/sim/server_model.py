"""One model server in virtual time: continuous batching with prefix cache, preemption and adapter slots.

The scheduler is vLLM's: running sequences first, then the queue in order of arrival; a token budget per step, long
prefills in chunks; when KV blocks run out the youngest running sequence gives up its memory and starts over. No clock
and no await: the caller passes time, so the same model answers over HTTP and replays an hour in seconds. Decoding
sequences cost nothing per step: their token counts follow from the step number, and only those that fill a block or
finish in a step are looked at.
"""

from collections import OrderedDict
from enum import Enum

from stellwerk.sim.adapter_slots import AdapterSlots
from stellwerk.sim.blocks import BlockPool
from stellwerk.sim.job import Counters, Event, Finished, FirstToken, Job, Preempted, Stepped
from stellwerk.sim.shape import Shape


class Phase(Enum):
    """Where a sequence is; `GONE` is aborted while a step computes it."""

    WAITING = 1
    PREFILL = 2
    DECODE = 3
    GONE = 4


class _Sequence:
    """State of one job. While it decodes, `computed` and `generated` are as of the start of step `since_step`."""

    __slots__ = (
        "arrived_at",
        "blocks",
        "cached_tokens",
        "computed",
        "finish_step",
        "first_token_at",
        "generated",
        "job",
        "phase",
        "preemptions",
        "scheduled_at",
        "sealed",
        "since_step",
        "target",
    )

    def __init__(self, job: Job, arrived_at: float) -> None:
        self.job = job
        self.arrived_at = arrived_at
        self.scheduled_at = -1.0
        self.first_token_at = -1.0
        self.cached_tokens = 0
        self.preemptions = 0
        self.phase = Phase.WAITING
        self.blocks: list[int] = []
        self.sealed = 0
        self.computed = 0
        self.target = job.prompt_tokens
        """Tokens whose KV must be computed before the next token comes out."""
        self.generated = 0
        self.since_step = 0
        self.finish_step = 0


class ServerModel:
    """The machine. `submit` and `abort` at non-decreasing times, `advance(now)` for what happened until `now`."""

    def __init__(self, shape: Shape, *, reports_steps: bool = False) -> None:
        problem = shape.problem()
        if problem is not None:
            raise ValueError(problem)
        self.shape = shape
        self.pool = BlockPool(shape.block_count)
        self.adapters = AdapterSlots(shape.max_adapters)
        self.counters = Counters()
        self.slowness = 1.0
        """Factor on the time of each step that starts from now on."""
        self._reports_steps = reports_steps
        self._now = 0.0
        self._step = 0
        self._step_end: float | None = None
        self._step_seconds = 0.0
        self._is_stalled = False
        self._sequences: dict[int, _Sequence] = {}
        self._waiting: OrderedDict[int, _Sequence] = OrderedDict()
        self._running: dict[int, _Sequence] = {}
        self._prefilling: dict[int, _Sequence] = {}
        self._chunks: list[tuple[_Sequence, int]] = []
        self._decoding = 0
        self._context = 0
        self._finish_at: dict[int, list[_Sequence]] = {}
        self._block_at: list[dict[int, _Sequence]] = [{} for _ in range(shape.block_size)]
        self._may_admit = True
        self._loads = 0
        self._events: list[Event] = []

    # What it is asked

    def submit(self, job: Job, now: float) -> None:
        """Queue a job. Raises ValueError for one that can never be computed here."""
        if job.prompt_tokens < 1 or job.output_tokens < 0:
            raise ValueError(f"job {job.id} has {job.prompt_tokens} prompt and {job.output_tokens} output tokens")
        if job.prompt_tokens + job.output_tokens > self.shape.kv_tokens:
            total = job.prompt_tokens + job.output_tokens
            raise ValueError(f"job {job.id} needs KV memory for {total} tokens: there is {self.shape.kv_tokens}")
        if job.adapter and self.shape.max_adapters == 0:
            raise ValueError(f"job {job.id} wants adapter {job.adapter!r}: the server has no adapter slots")
        if job.id in self._sequences:
            raise ValueError(f"job {job.id} was submitted twice")
        sequence = _Sequence(job, now)
        self._sequences[job.id] = self._waiting[job.id] = sequence
        self._may_admit = True

    def abort(self, job_id: int) -> bool:
        """Forget a job and free all it holds; False if there is none of this id (any more)."""
        sequence = self._sequences.pop(job_id, None)
        if sequence is None:
            return False
        if sequence.phase is Phase.WAITING:
            del self._waiting[job_id]
        else:
            self._leave(sequence)
        sequence.phase = Phase.GONE
        self._may_admit = True
        return True

    def stall(self) -> None:
        """Wedge: nothing happens until `resume`."""
        self._is_stalled = True

    def resume(self, now: float) -> None:
        """Go on where it stopped; the interrupted step ends now at the earliest."""
        if not self._is_stalled:
            return
        self._is_stalled = False
        self._now = max(self._now, now)
        if self._step_end is not None:
            self._step_end = max(self._step_end, now)

    def next_time(self) -> float | None:
        """When `advance` will next have something to do; None while idle or stalled."""
        if self._is_stalled:
            return None
        if self._step_end is not None:
            return self._step_end
        for sequence in self._waiting.values():
            return max(self._now, sequence.arrived_at)
        return None

    def advance(self, now: float) -> list[Event]:
        """End every step that is over by `now` and start those that follow. Events in order of time."""
        if self._is_stalled:
            return []
        while (at := self.next_time()) is not None and at <= now:
            if self._step_end is not None:
                self._end_step(at)
            self._now = at
            if self._running or self._waiting:
                self._begin_step(at)
                if not self._chunks and not (self._may_admit and self._waiting):
                    self._leap(now)
        events, self._events = self._events, []
        return events

    # What it tells

    @property
    def is_stalled(self) -> bool:
        """Whether the engine is wedged."""
        return self._is_stalled

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

    @property
    def kv_use(self) -> float:
        """Share of KV blocks held by running sequences, 0..1."""
        return self.pool.used / self.pool.count

    def waiting_for_adapter(self) -> int:
        """Of those waiting, how many cannot start because all adapter slots are taken by running adapters."""
        return sum(1 for sequence in self._waiting.values() if not self.adapters.has_room_for(sequence.job.adapter))

    def running_adapters(self) -> tuple[str, ...]:
        """Adapters of running sequences, in order of their first."""
        return tuple(self.adapters.running)

    def waiting_adapters(self) -> tuple[str, ...]:
        """Adapters of waiting sequences, in order of arrival."""
        return tuple(dict.fromkeys(s.job.adapter for s in self._waiting.values() if s.job.adapter))

    def generated(self, job_id: int) -> int:
        """Tokens made so far; 0 for an unknown job."""
        sequence = self._sequences.get(job_id)
        if sequence is None:
            return 0
        if sequence.phase is Phase.DECODE:
            return sequence.generated + self._step - sequence.since_step
        return sequence.generated

    # A step

    def _begin_step(self, at: float) -> None:
        has_preempted = self._give_blocks_to_decodes(at)
        budget = self.shape.max_batched_tokens - self._decoding
        self._loads = 0
        chunks: list[tuple[_Sequence, int]] = []
        for sequence in list(self._prefilling.values()):
            if budget == 0:
                break
            if sequence.phase is not Phase.PREFILL:
                continue
            tokens = min(sequence.target - sequence.computed, budget)
            if not self._grow(sequence, sequence.computed + tokens, at):
                has_preempted = True
                break
            chunks.append((sequence, tokens))
            budget -= tokens
        self._chunks = [chunk for chunk in chunks if chunk[0].phase is Phase.PREFILL]
        has_preempted = has_preempted or len(self._chunks) < len(chunks)
        if self._may_admit and not has_preempted:
            self._admit(at, budget)
        if not self._decoding and not self._chunks:
            self._step_end = None
            return
        self._step_seconds = self._seconds()
        self._step_end = at + self._step_seconds

    def _seconds(self) -> float:
        step = self.shape.step
        tokens = sum(chunk[1] for chunk in self._chunks)
        context = self._context + sum(chunk[0].computed for chunk in self._chunks)
        seconds = (
            step.base_seconds
            + step.per_sequence_seconds * (self._decoding + len(self._chunks))
            + step.per_context_token_seconds * context
            + step.adapter_load_seconds * self._loads
        )
        if step.prefill_tokens_per_second > 0:
            seconds += tokens / step.prefill_tokens_per_second
        return seconds * self.slowness

    def _give_blocks_to_decodes(self, at: float) -> bool:
        """One more block for each decoding sequence whose last one is full. True if somebody was preempted for it."""
        before = self.counters.preemptions
        for sequence in list(self._block_at[self._step % self.shape.block_size].values()):
            if sequence.phase is Phase.DECODE:
                computed = sequence.computed + self._step - sequence.since_step
                self._seal(sequence, computed)
                self._grow(sequence, computed + 1, at)
        return self.counters.preemptions > before

    def _grow(self, sequence: _Sequence, tokens: int, at: float) -> bool:
        """Give a running sequence blocks for `tokens`, preempting the youngest; False if that was itself."""
        fresh = -(-tokens // self.shape.block_size) - len(sequence.blocks)
        if fresh <= 0:
            return True
        while (taken := self.pool.take((), fresh)) is None:
            youngest = next(reversed(self._running.values()))
            self._preempt(youngest, at)
            if youngest is sequence:
                return False
        sequence.blocks += taken
        return True

    def _preempt(self, sequence: _Sequence, at: float) -> None:
        self._leave(sequence)
        sequence.computed = 0
        sequence.target = sequence.job.prompt_tokens + sequence.generated
        sequence.phase = Phase.WAITING
        sequence.preemptions += 1
        self.counters.preemptions += 1
        self._waiting[sequence.job.id] = sequence
        self._waiting.move_to_end(sequence.job.id, last=False)
        self._may_admit = True
        self._events.append(Preempted(sequence.job.id, at))

    def _admit(self, at: float, budget: int) -> None:
        """Start sequences from the queue, oldest first, passing over those that wait for an adapter slot."""
        started: list[_Sequence] = []
        self._may_admit = False
        for sequence in self._waiting.values():
            if len(self._running) + len(started) >= self.shape.max_sequences:
                break
            if sequence.arrived_at > at or budget == 0:
                self._may_admit = True
                break
            if not self.adapters.has_room_for(sequence.job.adapter):
                continue
            taken = self._start(sequence, budget)
            if taken == 0:
                break
            budget -= taken
            started.append(sequence)
            if self.adapters.hold(sequence.job.adapter):
                self._loads += 1
                self.counters.adapter_loads += 1
        for sequence in started:
            del self._waiting[sequence.job.id]
            self._running[sequence.job.id] = self._prefilling[sequence.job.id] = sequence
            sequence.phase = Phase.PREFILL
            if sequence.scheduled_at < 0:
                sequence.scheduled_at = at

    def _start(self, sequence: _Sequence, budget: int) -> int:
        """Find the cached prefix, take blocks and a first chunk; the chunk's tokens, or 0 if memory is short."""
        size = self.shape.block_size
        hashes = sequence.job.block_hashes if self.shape.has_prefix_cache else ()
        cached = self.pool.match(hashes, (sequence.target - 1) // size)
        computed = len(cached) * size
        tokens = min(sequence.target - computed, budget)
        blocks = self.pool.take(cached, -(-(computed + tokens) // size) - len(cached))
        if blocks is None:
            return 0
        sequence.blocks = blocks
        sequence.computed = computed
        sequence.sealed = len(cached)
        if sequence.preemptions == 0:
            sequence.cached_tokens = computed
            self.counters.queried_tokens += sequence.target
            self.counters.hit_tokens += computed
        self._chunks.append((sequence, tokens))
        return tokens

    def _leap(self, now: float) -> None:
        """Run through steps that only decode, up to the next one in which a sequence ends or needs a block."""
        end = self._step_end
        if end is None:
            return
        shape, sequences, slowness = self.shape, self._decoding, self.slowness
        fixed = shape.step.base_seconds + shape.step.per_sequence_seconds * sequences
        per_token, size = shape.step.per_context_token_seconds, shape.block_size
        begun, at, step, context = self._now, self._now, self._step, self._context
        while end <= now and step not in self._finish_at and not self._block_at[(step + 1) % size]:
            step += 1
            context += sequences
            at = end
            end = at + (fixed + per_token * context) * slowness
        steps = step - self._step
        if steps == 0:
            return
        self._now, self._step, self._context = at, step, context
        self._step_end, self._step_seconds = end, end - at
        self.counters.steps += steps
        self.counters.generated_tokens += steps * sequences
        if self._reports_steps:
            self._events.append(Stepped(at, (at - begun) / steps, sequences, 0, steps))

    def _end_step(self, at: float) -> None:
        decodes, prefill = self._decoding, 0
        self._context += decodes
        self.counters.generated_tokens += decodes
        self.counters.steps += 1
        finishing = self._finish_at.pop(self._step, ())
        self._step += 1
        self._step_end = None
        for sequence in finishing:
            self._finish(sequence, at)
        for sequence, tokens in self._chunks:
            prefill += tokens
            if sequence.phase is Phase.PREFILL:
                sequence.computed += tokens
                self._seal(sequence, sequence.computed)
                if sequence.computed == sequence.target:
                    self._end_prefill(sequence, at)
        self._chunks = []
        if self._reports_steps:
            self._events.append(Stepped(at, self._step_seconds, decodes, prefill))

    def _end_prefill(self, sequence: _Sequence, at: float) -> None:
        job = sequence.job
        self._may_admit = True
        del self._prefilling[job.id]
        if sequence.first_token_at < 0:
            sequence.first_token_at = at
            self.counters.prompt_tokens += job.prompt_tokens
            self.counters.cached_tokens += sequence.cached_tokens
            if job.output_tokens:
                self._events.append(FirstToken(job.id, at))
        if job.output_tokens:
            sequence.generated += 1
            self.counters.generated_tokens += 1
        if sequence.generated >= job.output_tokens:
            self._finish(sequence, at)
            return
        sequence.phase = Phase.DECODE
        sequence.since_step = self._step
        sequence.finish_step = self._step + job.output_tokens - sequence.generated - 1
        self._decoding += 1
        self._context += sequence.computed
        self._finish_at.setdefault(sequence.finish_step, []).append(sequence)
        self._block_at[(self._step - sequence.computed) % self.shape.block_size][job.id] = sequence

    def _finish(self, sequence: _Sequence, at: float) -> None:
        job = sequence.job
        self._leave(sequence)
        sequence.phase = Phase.GONE
        del self._sequences[job.id]
        self._may_admit = True
        self._events.append(
            Finished(
                id=job.id,
                at=at,
                arrived_at=sequence.arrived_at,
                scheduled_at=sequence.scheduled_at,
                first_token_at=sequence.first_token_at,
                prompt_tokens=job.prompt_tokens,
                cached_tokens=sequence.cached_tokens,
                output_tokens=job.output_tokens,
                preemptions=sequence.preemptions,
            )
        )

    # What a sequence holds

    def _leave(self, sequence: _Sequence) -> None:
        """Take a sequence out of the batch; its counts become final and its blocks and adapter are free."""
        job = sequence.job
        del self._running[job.id]
        if sequence.phase is Phase.DECODE:
            made = self._step - sequence.since_step
            sequence.computed += made
            sequence.generated += made
            self._decoding -= 1
            self._context -= sequence.computed
            bucket = (sequence.since_step - (sequence.computed - made)) % self.shape.block_size
            del self._block_at[bucket][job.id]
            peers = self._finish_at.get(sequence.finish_step)
            if peers is not None:
                peers.remove(sequence)
        else:
            self._prefilling.pop(job.id, None)
        self._seal(sequence, sequence.computed)
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.sealed = 0
        self.adapters.drop(job.adapter)

    def _seal(self, sequence: _Sequence, computed: int) -> None:
        hashes = sequence.job.block_hashes
        full = min(computed // self.shape.block_size, len(hashes))
        if full > sequence.sealed and self.shape.has_prefix_cache:
            for i in range(sequence.sealed, full):
                self.pool.seal(sequence.blocks[i], hashes[i])
            sequence.sealed = full
