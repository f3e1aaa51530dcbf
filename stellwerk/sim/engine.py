"""One simulated engine with its clock and its figures: what a restart replaces."""

import time

from stellwerk.sim.drive import Drive
from stellwerk.sim.metrics import EngineMetrics
from stellwerk.sim.server_model import ServerModel
from stellwerk.sim.settings import SimSettings


class Engine:
    """Model, timer and metrics of one server process."""

    def __init__(self, settings: SimSettings) -> None:
        self.started_at = time.time()
        self.model = ServerModel(settings.shape, reports_steps=True)
        self.metrics = EngineMetrics(self.model, settings.models[0], settings.max_model_tokens, self.started_at)
        self.drive = Drive(self.model, self.metrics)

    def wedge(self) -> None:
        """Stop the engine; the page keeps the figures of this moment."""
        self.metrics.refresh()
        self.drive.stall()
