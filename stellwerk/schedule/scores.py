"""The scores of a decision, for a proxy that asked for them: those of every candidate that the filters left."""

from array import array

import numpy as np

from stellwerk.model.outcome import Scores
from stellwerk.schedule.pipeline import Selection

MAX_SCORES = 1000
"""About 30 KB on the wire, and 0.2 ms; upstream sends any number."""


def scores(selection: Selection) -> Scores:
    """Addresses and total scores. Of more than `MAX_SCORES` candidates those picked and the best of the others."""
    members, totals = selection.candidates.members, selection.totals
    if len(members) > MAX_SCORES:
        ranks = totals.copy()
        ranks[selection.order] = np.inf
        best = np.argpartition(ranks, -MAX_SCORES)[-MAX_SCORES:]
        members, totals = tuple([members[position] for position in best.tolist()]), totals[best]
    return Scores(tuple([member.address for member in members]), array("d", totals.tobytes()))
