"""All tasks of a dataset, chosen and drawn: pure, so that equal sources and settings give equal tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from star_contracts.settings import LeakageRules, TaskSettings
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids
from star_jobs.datasets.source import SourceTables, SourceTask, invalid
from star_jobs.datasets.tasks import (
    Moment,
    MomentFinder,
    NegativeSampler,
    choose_test,
    choose_train,
    shuffled,
    task_seed,
)


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

    def answers(self) -> Iterator[tuple[int, int]]:
        """Yield every task's (user, ground truth) codes."""
        return ((draft.moment.user, draft.moment.item) for draft in (*self.test, *self.train))


def make_plan(source: SourceTables, settings: TaskSettings, rules: LeakageRules) -> Plan:
    """Choose test tasks, hide their users and answers, choose training tasks. Pure.

    Raises TerminalFailure(InvalidDataset) when the source cannot give the tasks asked for.
    """
    full = source.interactions
    if len(full.items) == 0:
        raise invalid("the source holds no usable interaction")
    platforms = source.platforms.codes
    test = _given(source.tasks, full, settings) if source.tasks else _drawn_test(full, platforms, settings)
    hidden_users = {draft.moment.user for draft in test} if rules.exclude_test_users else set[int]()
    hidden_items = {draft.moment.item for draft in test} if rules.exclude_test_users else set[int]()
    known = full.without(hidden_users, hidden_items)
    finder = MomentFinder(known, settings, full)
    moments = choose_train({type_: finder.find(type_) for type_ in settings.types}, settings)
    negatives = NegativeSampler(full, platforms, hidden_items)
    train = [_draft(f"train-{at:06d}", moment, known, settings, negatives) for at, moment in enumerate(moments)]
    return Plan(full, test, train)


def _drawn_test(full: Histories, platforms: NDArray[np.int32], settings: TaskSettings) -> list[Draft]:
    finder = MomentFinder(full, settings, full)
    moments = choose_test({type_: finder.find(type_) for type_ in settings.types}, settings)
    negatives = NegativeSampler(full, platforms)
    return [_draft(f"test-{at:06d}", moment, full, settings, negatives) for at, moment in enumerate(moments)]


def _given(tasks: Sequence[SourceTask], full: Histories, settings: TaskSettings) -> list[Draft]:
    """Take the source's own test tasks, `settings.test` of each type asked for, and shuffle their candidates again."""
    drafts: list[Draft] = []
    for type_ in settings.types:
        of_type = [task for task in tasks if task.type is type_][: settings.test]
        if not of_type:
            raise invalid(f"the source brings test tasks, but none of type {type_}: take it out of tasks.types")
        for task in of_type:
            user, item = _code(full.users, task.user_id), _code(full.catalogue, task.ground_truth)
            task_id = f"test-{len(drafts):06d}"
            seed = task_seed(settings.seed, task_id, task.user_id)
            moment = Moment(type_, user, full.first(user, item), item)
            drafts.append(Draft(task_id, moment, full, shuffled(task.candidates, seed), seed))
    return drafts


def _code(ids: Ids, value: str) -> int:
    code = ids.code(value)
    if code is None:
        raise invalid(f"a task of the source names {value!r}, which none of its tables has")
    return code


def _draft(
    task_id: str, moment: Moment, histories: Histories, settings: TaskSettings, negatives: NegativeSampler
) -> Draft:
    seed = task_seed(settings.seed, task_id, histories.users[moment.user])
    codes = [moment.item, *negatives.draw(moment, settings.candidates - 1, settings.negatives, seed)]
    return Draft(task_id, moment, histories, shuffled([histories.catalogue[code] for code in codes], seed), seed)
