"""The negatives of a task: items its user never took, and somebody else did.

What nobody ever took is no question: popularity alone would tell it from the answer. A user who leaves too few others,
because one took nearly everything, is skipped. Items are drawn out of the order in which they were first taken, or, by
popularity, out of all interactions in their order: so a dataset that has grown at its end draws mostly as before.
"""

import random
from collections.abc import Collection
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from star_contracts.settings import Negatives, TaskSettings
from star_jobs.datasets.draws import draw_some
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.tasks import Moment, Moments

_NEVER = np.iinfo(np.int64).max


class NegativeSampler:
    """Draws items a user never interacted with, of the same platform as the answer, that somebody else did."""

    def __init__(self, histories: Histories, then: Histories, platforms: NDArray[np.int32], mode: Negatives) -> None:
        """`platforms` is (items,): each item's platform. What is drawn had arrived in `then`, the beginning of them."""
        self._histories = histories
        self._platforms = platforms
        self._excluded: frozenset[int] = frozenset()
        self._allowed = then.popularity() > 0
        arrived = _arrivals(then, mode)
        self._pools = {one: arrived[platforms[arrived] == one] for one in np.unique(platforms).tolist()}
        """By platform, the items to draw from in the order of arrival: each once, or, by popularity, once a visit."""

    def excluding(self, items: Collection[int]) -> Self:
        """Return a sampler that never draws some items, and draws the others as before."""
        other = copy(self)
        other._excluded = frozenset(items)
        other._allowed = self._allowed.copy()
        other._allowed[list(items)] = False
        return other

    def able(self, moments: Moments, count: int) -> NDArray[np.bool_]:
        """Return (moments,) whether each leaves `count` negatives."""
        platforms = self._platforms[moments.items]
        room = np.zeros(len(moments), np.int64)
        for platform in self._pools:
            room[platforms == platform] = np.count_nonzero(self._allowed & (self._platforms == platform))
        able = room - np.diff(self._histories.starts)[moments.users] >= count  # whatever of it the user took
        for at in np.flatnonzero(~able & (room >= count)).tolist():
            taken = np.unique(self._life(int(moments.users[at])))
            of_it = self._allowed[taken] & (self._platforms[taken] == platforms[at])
            able[at] = room[at] - np.count_nonzero(of_it) >= count
        return able

    def draw(self, moment: Moment, settings: TaskSettings, seed: int) -> list[int]:
        """Return the codes of a task's negatives; they depend on `seed`.

        There are fewer than asked for where the moment leaves no more, which `able` tells before.
        """
        rng = random.Random(f"{seed}/negatives")  # noqa: S311 - reproducible, not secret
        barred = {moment.item, *self._life(moment.user).tolist(), *self._excluded}
        return list(draw_some(self._pools[int(self._platforms[moment.item])], barred, settings.candidates - 1, rng))

    def _life(self, user: int) -> NDArray[np.int32]:
        return self._histories.items[slice(*self._histories.span(user))]


def _arrivals(histories: Histories, mode: Negatives) -> NDArray[np.int32]:
    """Return item codes in the order in which they were first taken; by popularity, those of all interactions."""
    if mode is Negatives.POPULARITY:
        return histories.items[np.argsort(histories.timestamps, kind="stable")]
    first = np.full(len(histories.catalogue), _NEVER, np.int64)
    np.minimum.at(first, histories.items, histories.timestamps)
    order = np.argsort(first, kind="stable")  # of equal stamps the lower id is first
    return order[first[order] < _NEVER].astype(np.int32)
