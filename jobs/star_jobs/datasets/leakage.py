"""The leak rules on the interactions themselves: what neighbours, reviews and baselines may be computed from.

A task's history is cut where it is made (`tasks.shown_positions`); here the same knowledge is taken out of the
training-safe interactions, for the tasks of both splits, so that a look-up never knows more than its task's moment.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from star_contracts.settings import LeakageRules
from star_jobs.datasets.histories import Histories


def safe_mask(histories: Histories, answers: Iterable[tuple[int, int]], rules: LeakageRules) -> NDArray[np.bool_]:
    """Return (interactions,) True where an interaction gives no task's answer away.

    `answers` are the (user, ground truth) codes of all tasks. `drop_ground_truth_reviews` takes out the user's
    interactions with the ground truth, `truncate_history` all from the first of them on.
    """
    safe = np.ones(len(histories.items), dtype=np.bool_)
    for user, item in answers:
        start, end = histories.span(user)
        if rules.truncate_history:
            safe[histories.first(user, item) : end] = False
        if rules.drop_ground_truth_reviews:
            safe[start:end] &= histories.items[start:end] != item
    return safe
