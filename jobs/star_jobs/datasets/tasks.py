"""Ranking tasks from interactions: which user, which answer, what is known, which negatives (paper 4.1, A.1, B.1).

A task asks for one item a user went on to (the ground truth) among negatives the user never touched. It stands at one
moment of the user's life, its *cut*: the user's first interaction with the ground truth. Types differ in whose moment
it is and in how much of what came before is shown:

    type             ground truth                           whose moment                          history shown
    classic          the user's last item                   5 interactions or more before it      history_length
    user_cold_start  the user's last item                   the quarter of users with the fewest, history_length
                                                            one interaction or more before it
    item_cold_start  the user's last item out of the half   5 interactions or more before it      history_length
                     of items with the fewest interactions
    long_term        the user's last item                   a full window before it, at most 50   history_length
    short_term       the user's last item                   5 interactions or more before it      a fifth of it

"A full window" is `history_length`, and short_term shows at least 3. The quarter is of the users with two interactions
or more: a third of a platform's users have one, and nothing to be asked about. Everything drawn depends on the
settings' seed and on the ids alone: equal input gives equal tasks, on any machine, and input that has grown gives few
others (`draws.py`).
"""

import hashlib
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_contracts.data import Interaction, TaskType
from star_contracts.settings import LeakageRules, TaskSettings
from star_jobs.datasets.draws import lowest
from star_jobs.datasets.faults import invalid
from star_jobs.datasets.histories import Histories

MIN_HISTORY = 5
LONG_WINDOW = 50
SHORT_SHARE = 5
MIN_SHORT_WINDOW = 3
MIN_LIFE = 2
"""Interactions of a user with a task: the answer, and one before it."""
COLD_USERS = 0.25
"""Quantile of users' numbers of interactions up to which a user is cold; of those users who may have a task at all."""
COLD_ITEMS = 0.5
"""Quantile of items' numbers of interactions up to which an item is cold."""
RATING_DIGITS = 4
"""Decimals that a rating keeps; more would be the noise of 32-bit numbers."""
_BATCH = 1 << 20
"""Interactions looked at at once."""
_NOWHERE = -1


@dataclass(frozen=True)
class Moment:
    """A task in the making: positions and codes of a `Histories`."""

    type: TaskType
    user: int
    cut: int
    """Position of the user's first interaction with the ground truth; the end of the span when there is none."""
    item: int
    """The ground truth."""


@dataclass(frozen=True)
class Moments:
    """The possible tasks of one type, one a user, by user code: 16 bytes each."""

    type: TaskType
    users: NDArray[np.int32]
    cuts: NDArray[np.int64]
    items: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, at: int) -> Moment:
        return Moment(self.type, int(self.users[at]), int(self.cuts[at]), int(self.items[at]))

    def where(self, kept: NDArray[np.bool_]) -> "Moments":
        """Return those that `kept` (moments,) is true for."""
        return Moments(self.type, self.users[kept], self.cuts[kept], self.items[kept])


@dataclass(frozen=True)
class Thresholds:
    """What counts as cold, fixed once on all interactions, so that both splits mean the same."""

    user_interactions: float
    item_interactions: float

    @classmethod
    def of(cls, histories: Histories) -> "Thresholds":
        """Return the thresholds of a dataset."""
        activity, popularity = histories.activity(), histories.popularity()
        able = activity[activity >= MIN_LIFE]
        return cls(
            user_interactions=float(np.quantile(able, COLD_USERS)) if len(able) else 0.0,
            item_interactions=float(np.quantile(popularity[popularity > 0], COLD_ITEMS)),
        )


class MomentFinder:
    """Finds the possible tasks of one split's histories."""

    def __init__(self, histories: Histories, settings: TaskSettings, full: Histories) -> None:
        """`full` are the histories before anything was excluded: what is cold is measured on them."""
        limits = Thresholds.of(full)
        self._histories = histories
        self._window = settings.history_length
        self._cold_user = full.activity() <= limits.user_interactions
        self._cold_item = full.popularity() <= limits.item_interactions

    def find(self, type_: TaskType) -> Moments:
        """Return one moment for each user who has one, by user code. A batch of users at a time is looked at."""
        starts = self._histories.starts
        batches = np.unique(np.searchsorted(starts, np.arange(0, int(starts[-1]) + 1, _BATCH), side="right") - 1)
        ends = [*batches[1:].tolist(), len(starts) - 1]
        found = [self._among(type_, first, end) for first, end in zip(batches.tolist(), ends, strict=True)]
        users, cuts, items = (np.concatenate(column) for column in zip(*found, strict=True))
        return Moments(type_, users.astype(np.int32), cuts, items)

    def _among(
        self, type_: TaskType, first: int, end: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Return users, cuts and ground truths of the users from `first` to before `end`."""
        starts = self._histories.starts[first : end + 1]
        items = self._histories.items[starts[0] : starts[-1]]
        owners = np.repeat(np.arange(end - first), np.diff(starts))
        answers = np.full(end - first, _NOWHERE, np.int32)
        asked = np.flatnonzero(self._cold_item[items]) if type_ is TaskType.ITEM_COLD_START else np.arange(len(items))
        answers[owners[asked]] = items[asked]  # of a user's positions the last one written stays: the latest
        visits = np.flatnonzero(items == answers[owners])[::-1]
        before = np.full(end - first, _NOWHERE, np.int64)
        before[owners[visits]] = visits - (starts[:-1] - starts[0])[owners[visits]]  # of all visits the first
        fits = (np.diff(starts) >= MIN_LIFE) & (before >= self._needed(type_))
        if type_ is TaskType.USER_COLD_START:
            fits &= self._cold_user[first:end]
        users = np.flatnonzero(fits)
        return first + users, starts[users] + before[users], answers[users]

    def _needed(self, type_: TaskType) -> int:
        """Interactions that must lie before the cut."""
        if type_ is TaskType.USER_COLD_START:
            return 1
        return min(self._window, LONG_WINDOW) if type_ is TaskType.LONG_TERM else MIN_HISTORY


def choose_test(
    found: Mapping[TaskType, Moments], settings: TaskSettings, numbers: NDArray[np.uint64], skipped: int = 0
) -> list[Moment]:
    """Draw `settings.test` moments for each type, no user twice; types with few moments choose first.

    `numbers` (users,) are the users' own (`draws.numbers`). `skipped` users were left out for want of negatives.
    Raises TerminalFailure(InvalidDataset), which tells of them, when a type has none.
    """
    chosen: list[Moment] = []
    used: set[int] = set()
    for type_ in sorted(found, key=lambda t: (len(found[t]), t)):
        free = np.flatnonzero(~np.isin(found[type_].users, list(used)))
        if len(free) == 0:
            shorter = f"lower tasks.historyLength ({settings.history_length}), " if type_ is TaskType.LONG_TERM else ""
            raise invalid(
                f"no user is left for a test task of type {type_}: take it out of tasks.types, {shorter}lower "
                f"tasks.test ({settings.test} for each type), or bring more data{_why_skipped(skipped, settings)}"
            )
        places = free[lowest(numbers[found[type_].users[free]], f"{settings.seed}/test/{type_}", settings.test)]
        drawn = [found[type_][int(at)] for at in places]
        used.update(moment.user for moment in drawn)
        chosen.extend(drawn)
    return sorted(chosen, key=lambda moment: (settings.types.index(moment.type), moment.user))


def choose_train(
    found: Mapping[TaskType, Moments], settings: TaskSettings, numbers: NDArray[np.uint64], skipped: int = 0
) -> list[Moment]:
    """Draw training moments, equally many of each type as far as there are, going round the types.

    `numbers` (users,) are the users' own (`draws.numbers`); `skipped` as in `choose_test`.
    A type with fewer moments than its share stays short: filling up would unbalance the rest (paper A.1).
    Raises TerminalFailure(InvalidDataset) when training tasks are asked for and there are none at all.
    """
    share, extra = divmod(settings.train, len(settings.types))
    drawn: list[list[Moment]] = []
    for place, type_ in enumerate(settings.types):
        places = lowest(numbers[found[type_].users], f"{settings.seed}/train/{type_}", share + (place < extra))
        drawn.append([found[type_][int(at)] for at in places])
    rounds = max((len(column) for column in drawn), default=0)
    chosen = [column[at] for at in range(rounds) for column in drawn if at < len(column)]
    if settings.train and not chosen:
        raise invalid(
            f"no training task is left once the test tasks are taken out: lower tasks.test ({settings.test} for each "
            f"of {len(settings.types)} types) or bring more data{_why_skipped(skipped, settings)}"
        )
    return chosen


def _why_skipped(skipped: int, settings: TaskSettings) -> str:
    if not skipped:
        return ""
    return (
        f" ({skipped} users leave fewer than {settings.candidates - 1} items to draw negatives from: lower "
        "tasks.candidates, or bring a larger catalogue)"
    )


def task_id(split: str, type_: TaskType, user_id: str) -> str:
    """Return a task's id: a user has one task of a type in a split at most, and keeps its id while a dataset grows."""
    return f"{split}-{hashlib.sha256(f'{type_}/{user_id}'.encode()).hexdigest()[:16]}"


def task_seed(settings_seed: int, task_id: str, user_id: str) -> int:
    """Return the seed of one task's draws and shuffle: 31 bits that depend on the three arguments alone."""
    digest = hashlib.sha256(f"{settings_seed}/{task_id}/{user_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def shuffled(items: Collection[str], seed: int) -> tuple[str, ...]:
    """Return the items in an order that depends on their ids and the seed alone, never on which one is the answer."""
    order = sorted(items)
    random.Random(seed).shuffle(order)  # noqa: S311 - reproducible, not secret
    return tuple(order)


def window(type_: TaskType, history_length: int) -> int:
    """Return how many interactions a task of this type shows."""
    if type_ is TaskType.SHORT_TERM:
        return min(history_length, max(MIN_SHORT_WINDOW, history_length // SHORT_SHARE))
    return history_length


def shown_positions(histories: Histories, moment: Moment, rules: LeakageRules, length: int) -> NDArray[np.int64]:
    """Return the positions of a task's history, oldest first, under the leakage rules."""
    start, end = histories.span(moment.user)
    positions = np.arange(start, moment.cut if rules.truncate_history else end)
    if rules.drop_ground_truth_reviews:
        positions = positions[histories.items[positions] != moment.item]
    return positions[-length:]


def interactions_at(
    histories: Histories, positions: Collection[int], text_of: Callable[[int], str]
) -> tuple[Interaction, ...]:
    """Return interactions as records; `text_of` gives the review of a source row."""
    return tuple(
        Interaction(
            item_id=histories.catalogue[histories.items[at]],
            timestamp=int(histories.timestamps[at]),
            rating=None if np.isnan(histories.ratings[at]) else round(float(histories.ratings[at]), RATING_DIGITS),
            text=text_of(int(histories.rows[at])),
        )
        for at in positions
    )
