"""Real time for one `ServerModel`: a single timer at the model's next step, and listeners told what came out.

Tokens are not events: after each step the streaming requests ask the model how many they have. A client that reads
slowly therefore costs no memory, and gets its tokens merged later, as vLLM does it.
"""

import asyncio
import time
from typing import Protocol

from stellwerk.sim.job import Event, Finished, FirstToken, Job, Stepped
from stellwerk.sim.server_model import ServerModel

_TICK_SECONDS = 0.001
"""Timers of libuv are whole milliseconds, rounded: a step that is due within one is due."""


class Listener(Protocol):
    """One job's reader."""

    def progressed(self, tokens: int) -> None:
        """So many tokens are out, in total."""

    def finished(self, event: Finished) -> None:
        """The job is over."""


class Observer(Protocol):
    """Reads everything, for the metrics page."""

    def stepped(self, event: Stepped) -> None:
        """A step ended."""

    def first_token(self, event: FirstToken, seconds: float) -> None:
        """A first token came `seconds` after its request."""

    def job_finished(self, event: Finished) -> None:
        """A job ended by itself."""

    def adapters_changed(self) -> None:
        """Another set of adapters runs or waits."""


class Drive:
    """Owns the model and its timer."""

    def __init__(self, model: ServerModel, observer: Observer) -> None:
        """`model` must report steps."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._listeners: dict[int, Listener] = {}
        self._streams: dict[int, Listener] = {}
        self._arrivals: dict[int, float] = {}
        self._next_id = 0
        self._is_advancing = False
        self._is_closed = False
        self.model = model
        self._observer = observer

    def next_id(self) -> int:
        """An unused job id."""
        self._next_id += 1
        return self._next_id

    def submit(self, job: Job, listener: Listener, *, is_stream: bool) -> None:
        """Queue a job; it starts with `pump`, so that the prompts of one request arrive together. Raises ValueError."""
        now = time.monotonic()
        self.model.submit(job, now)
        self._listeners[job.id] = listener
        self._arrivals[job.id] = now
        if is_stream:
            self._streams[job.id] = listener
        if job.adapter:
            self._observer.adapters_changed()

    def abort(self, job_id: int) -> bool:
        """Forget a job and its listener."""
        self._forget(job_id)
        was_there = self.model.abort(job_id)
        if was_there and self.model.shape.max_adapters:
            self._observer.adapters_changed()
        return was_there

    def set_slowness(self, factor: float) -> None:
        """Every step from now on takes `factor` times as long."""
        self.model.slowness = factor

    def stall(self) -> None:
        """Wedge the engine."""
        self.model.stall()
        self.pump()

    def resume(self) -> None:
        """Un-wedge it."""
        self.model.resume(time.monotonic())
        self.pump()

    def close(self) -> None:
        """Stop the timer for good."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pump(self, early_seconds: float = 0.0) -> None:
        """Do what is due, or will be in `early_seconds`, and arm the timer. Listeners may submit meanwhile."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while events := self.model.advance(time.monotonic() + early_seconds):
                for stream_id, listener in list(self._streams.items()):
                    listener.progressed(self.model.generated(stream_id))
                for event in events:
                    self._tell(event)
        finally:
            self._is_advancing = False
        self._arm()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self._observer.stepped(event)
        elif isinstance(event, FirstToken):
            arrived_at = self._arrivals.get(event.id)
            if arrived_at is not None:
                self._observer.first_token(event, event.at - arrived_at)
        elif isinstance(event, Finished):
            listener = self._listeners.get(event.id)
            if listener is None:
                return
            stream = self._streams.get(event.id)
            self._forget(event.id)
            self._observer.job_finished(event)
            if stream is not None:
                stream.progressed(event.output_tokens)
            listener.finished(event)
        if self.model.shape.max_adapters and not isinstance(event, Stepped):
            self._observer.adapters_changed()

    def _forget(self, job_id: int) -> None:
        self._listeners.pop(job_id, None)
        self._streams.pop(job_id, None)
        self._arrivals.pop(job_id, None)

    def _arm(self) -> None:
        at = self.model.next_time()
        if self._timer is not None:
            if at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None and not self._is_closed:
            self._timer_at = at
            self._timer = self._loop.call_later(max(at - time.monotonic(), _TICK_SECONDS), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.pump(_TICK_SECONDS)
