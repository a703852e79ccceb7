"""The negatives of a task: items its user never took, and somebody else did.

What nobody ever took is no question: popularity alone would tell it from the answer. A user who leaves too few others,
because one took nearly everything, is skipped.

A task's negatives are items that were there at its moment: somebody had taken them before, and by popularity they are
as popular as they had been until then. What came later is drawn only where that leaves too few. So a task says nothing
of what was still to come, and a dataset that has grown at its end draws as before.
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

    def __init__(self, histories: Histories, platforms: NDArray[np.int32], mode: Negatives) -> None:
        """`platforms` is (items,): each item's platform."""
        self._histories = histories
        self._platforms = platforms
        self._excluded: frozenset[int] = frozenset()
        self._allowed = histories.popularity() > 0
        codes, times = _arrivals(histories, mode)
        of_it = {one: platforms[codes] == one for one in np.unique(platforms).tolist()}
        self._pools = {one: (codes[mask], times[mask]) for one, mask in of_it.items()}
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

    def draw(self, moment: Moment, time: int, settings: TaskSettings, seed: int) -> list[int]:
        """Return the codes of a task's negatives at the moment's time (Unix seconds); they depend on `seed`.

        There are fewer than asked for where the moment leaves no more, which `able` tells before.
        """
        rng = random.Random(f"{seed}/negatives")  # noqa: S311 - reproducible, not secret
        barred, count = {moment.item, *self._life(moment.user).tolist(), *self._excluded}, settings.candidates - 1
        codes, times = self._pools[int(self._platforms[moment.item])]
        drawn = list(draw_some(codes[: int(np.searchsorted(times, time))], barred, count, rng))
        return [*drawn, *draw_some(codes, barred | set(drawn), count - len(drawn), rng)]

    def _life(self, user: int) -> NDArray[np.int32]:
        return self._histories.items[slice(*self._histories.span(user))]


def _arrivals(histories: Histories, mode: Negatives) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return item codes in the order in which they were first taken, and when; by popularity, of all interactions."""
    if mode is Negatives.POPULARITY:
        order = np.argsort(histories.timestamps, kind="stable")
        return histories.items[order], histories.timestamps[order]
    first = np.full(len(histories.catalogue), _NEVER, np.int64)
    np.minimum.at(first, histories.items, histories.timestamps)
    order = np.argsort(first, kind="stable")  # of equal stamps the lower id is first
    order = order[first[order] < _NEVER]
    return order.astype(np.int32), first[order]
