"""The negatives of a task: items its user never took, and somebody else did.

What nobody ever took is no question: popularity alone would tell it from the answer. A user who leaves too few others,
because one took nearly everything, is skipped.
"""

import random
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from star_contracts.settings import Negatives, TaskSettings
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.tasks import Moment, Moments


class NegativeSampler:
    """Draws items a user never interacted with, of the same platform as the answer, that somebody else did."""

    def __init__(self, histories: Histories, platforms: NDArray[np.int32], excluded: Collection[int] = ()) -> None:
        """`platforms` is (items,): each item's platform; `excluded` items are never drawn."""
        self._histories = histories
        self._platforms = platforms
        popularity = histories.popularity()
        self._allowed = popularity > 0
        self._allowed[list(excluded)] = False
        self._pools: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for platform in np.unique(platforms).tolist():
            codes = np.flatnonzero((platforms == platform) & self._allowed)
            self._pools[platform] = (codes, np.cumsum(popularity[codes]))

    def able(self, moments: Moments, count: int) -> NDArray[np.bool_]:
        """Return (moments,) whether each leaves `count` negatives."""
        platforms = self._platforms[moments.items]
        room = np.zeros(len(moments), np.int64)
        for platform, (codes, _) in self._pools.items():
            room[platforms == platform] = len(codes)
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
        count = settings.candidates - 1
        rng = random.Random(f"{seed}/negatives")  # noqa: S311 - reproducible, not secret
        codes, weights = self._pools[int(self._platforms[moment.item])]
        taken = {moment.item, *self._life(moment.user).tolist()}
        if settings.negatives is Negatives.POPULARITY:
            return list(_weighted(codes, weights, taken, count, rng))
        return list(_uniform(codes, taken, count, rng))

    def _life(self, user: int) -> NDArray[np.int32]:
        return self._histories.items[slice(*self._histories.span(user))]


def _uniform(codes: NDArray[np.int64], taken: Collection[int], count: int, rng: random.Random) -> Iterator[int]:
    if len(codes) > 4 * (len(taken) + count):  # sparse: tries hit nearly always
        seen = set(taken)
        while count > 0:
            code = int(codes[rng.randrange(len(codes))])
            if code not in seen:
                seen.add(code)
                count -= 1
                yield code
    else:
        free = codes[~np.isin(codes, list(taken))].tolist()
        yield from rng.sample(free, min(count, len(free)))


def _weighted(
    codes: NDArray[np.int64], weights: NDArray[np.int64], taken: Collection[int], count: int, rng: random.Random
) -> Iterator[int]:
    """Draw one after the other in proportion to the weights; after many vain tries go on uniformly."""
    seen, tries = set(taken), 50 * count
    total = int(weights[-1]) if len(weights) else 0
    while count > 0 and tries > 0 and total > 0:
        tries -= 1
        code = int(codes[np.searchsorted(weights, rng.randrange(total) + 1)])
        if code not in seen:
            seen.add(code)
            count -= 1
            yield code
    yield from _uniform(codes, seen, count, rng)
