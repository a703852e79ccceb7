"""All tasks of a dataset, chosen and drawn: pure, so that equal sources and settings give equal tasks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_contracts.settings import LeakageRules, TaskSettings
from star_jobs.datasets.draws import numbers
from star_jobs.datasets.faults import FileReport, Tally, invalid
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids
from star_jobs.datasets.limits import MAX_IMPLAUSIBLE, Doubt
from star_jobs.datasets.negatives import NegativeSampler
from star_jobs.datasets.source import SourceTables, SourceTask
from star_jobs.datasets.tasks import (
    Moment,
    MomentFinder,
    Moments,
    choose_test,
    choose_train,
    shuffled,
    task_id,
    task_seed,
)

GIVEN_TASKS = "test tasks"
"""What stats.json calls the tasks that the source brings and that are used."""


@dataclass(frozen=True)
class Draft:
    """A task before its history is written out."""

    task_id: str
    moment: Moment
    histories: Histories
    """Those the moment's positions refer to: the full ones, or what training tasks may know."""
    candidates: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Plan:
    """All tasks, and the full histories."""

    full: Histories
    test: Sequence[Draft]
    train: Sequence[Draft]
    skipped: int = 0
    """Users without a task, as they leave too few items to draw negatives from."""
    given: FileReport | None = None
    """What is in doubt about test tasks that the source brings."""

    def answers(self) -> Iterator[tuple[int, int]]:
        """Yield every task's (user, ground truth) codes."""
        return ((draft.moment.user, draft.moment.item) for draft in (*self.test, *self.train))


def make_plan(
    source: SourceTables, settings: TaskSettings, rules: LeakageRules, max_implausible: float = MAX_IMPLAUSIBLE
) -> Plan:
    """Choose test tasks, hide their users and answers, choose training tasks. Pure.

    Raises TerminalFailure(InvalidDataset) when the source cannot give the tasks asked for, or when more than the share
    `max_implausible` of its own test tasks are in doubt.
    """
    full = source.interactions
    if len(full.items) == 0:
        raise invalid("the source holds no usable interaction")
    everybody, of_users = None, numbers(full.users)
    then = full.first_in_time(renewed_at(len(full.items), settings.test_renewal))
    negatives = NegativeSampler(full, then, source.platforms.codes, settings.negatives)
    if source.tasks:
        test = _given(source.tasks, full, settings)
    else:
        everybody = _Drawer(then, then, settings, negatives)
        test = everybody.drafts("test", choose_test(everybody.found, settings, of_users, everybody.skipped))
    hidden_users = {draft.moment.user for draft in test} if rules.exclude_test_users else set[int]()
    hidden_items = {draft.moment.item for draft in test} if rules.exclude_test_users else set[int]()
    known = full.without(hidden_users, hidden_items)
    others = _Drawer(known, full, settings, negatives.excluding(hidden_items))
    train = others.drafts("train", choose_train(others.found, settings, of_users, others.skipped))
    given = _weighed(test, full, max_implausible) if source.tasks else None
    return Plan(full, test, train, (everybody or others).skipped, given)


LEAST_RENEWAL = 0.001
"""Less is no renewal: the source has grown by that much whenever it has changed."""


def renewed_at(count: int, renewal: float) -> int:
    """Return how many interactions there were when the test tasks were drawn last, of `count` now; all without renewal.

    They are drawn anew at the whole powers of 1 + `renewal`: a rule of the number alone, so that two preparations of a
    source that has grown agree without knowing of each other.
    """
    if renewal < LEAST_RENEWAL:
        return count
    power = math.floor(math.log(count) / math.log1p(renewal))
    exact = (math.ceil((1 + renewal) ** step) for step in (power + 1, power, power - 1))  # logarithms are rounded
    return next((drawn for drawn in exact if drawn <= count), 1)


class _Drawer:
    """Finds and makes the tasks of one split."""

    def __init__(self, known: Histories, full: Histories, settings: TaskSettings, negatives: NegativeSampler) -> None:
        """`known` are the split's histories, out of the `full` ones, on which it is measured what is cold."""
        self.known = known
        self.settings = settings
        self.negatives = negatives
        finder = MomentFinder(known, settings, full)
        possible = [finder.find(type_) for type_ in settings.types]
        self.found = {
            moments.type: moments.where(negatives.able(moments, settings.candidates - 1)) for moments in possible
        }
        """The possible tasks of each type whose users leave enough negatives."""
        self.skipped = len(_users(possible)) - len(_users(self.found.values()))
        """Users who would have a task if they left enough negatives."""

    def drafts(self, split: str, moments: Sequence[Moment]) -> list[Draft]:
        """Make tasks of moments."""
        return [self._draft(split, moment) for moment in moments]

    def _draft(self, split: str, moment: Moment) -> Draft:
        user_id = self.known.users[moment.user]
        name = task_id(split, moment.type, user_id)
        seed = task_seed(self.settings.seed, name, user_id)
        codes = [moment.item, *self.negatives.draw(moment, self.settings, seed)]
        candidates = shuffled([self.known.catalogue[code] for code in codes], seed)
        return Draft(name, moment, self.known, candidates, seed)


def _given(tasks: Sequence[SourceTask], full: Histories, settings: TaskSettings) -> list[Draft]:
    """Take the source's own test tasks, `settings.test` of each type asked for, and shuffle their candidates again."""
    drafts: list[Draft] = []
    for type_ in settings.types:
        of_type = [task for task in tasks if task.type is type_][: settings.test]
        if not of_type:
            raise invalid(f"the source brings test tasks, but none of type {type_}: take it out of tasks.types")
        for task in of_type:
            user, item = _code(full.users, task.user_id), _code(full.catalogue, task.ground_truth)
            name = f"test-{len(drafts):06d}"
            seed = task_seed(settings.seed, name, task.user_id)
            moment = Moment(type_, user, full.first(user, item), item)
            drafts.append(Draft(name, moment, full, shuffled(task.candidates, seed), seed))
    return drafts


def _code(ids: Ids, value: str) -> int:
    code = ids.code(value)
    if code is None:
        raise invalid(f"a task of the source names {value!r}, which none of its tables has")
    return code


def _users(found: Iterable[Moments]) -> NDArray[np.int32]:
    return np.unique(np.concatenate([moments.users for moments in found]))


def _weighed(drafts: Sequence[Draft], full: Histories, max_implausible: float) -> FileReport:
    """Count which of the source's tasks are no fair questions, by what its own interactions say."""
    tally, popularity = Tally(GIVEN_TASKS, 1.0, "tasks", max_implausible=max_implausible), full.popularity()
    for draft in drafts:
        tally.saw(1)
        user = draft.moment.user
        start, end = full.span(user)
        taken = set(full.items[start:end].tolist())
        negatives = [code for item in draft.candidates if (code := _code(full.catalogue, item)) != draft.moment.item]
        where = f"{draft.moment.type} task of user {full.users[user]}"
        own = next((code for code in negatives if code in taken), None)
        if own is not None:
            tally.doubt(f"{where}: its user has taken candidate {full.catalogue[own]}", Doubt.OWN_CANDIDATE)
        untaken = next((code for code in negatives if popularity[code] == 0), None)
        if untaken is not None:
            tally.doubt(f"{where}: nobody took candidate {full.catalogue[untaken]}", Doubt.UNTAKEN_CANDIDATE)
        if draft.moment.cut == start:
            tally.doubt(f"{where}: no interaction before it", Doubt.NO_HISTORY)
    return tally.finish()
