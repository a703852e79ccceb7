"""A request for a recommendation -> the same kind of task that the student was trained on."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from star_contracts.data import Interaction, Item, RankingTask, TaskType
from star_jobs.datasets.users import KnownUsers
from star_jobs.serve.catalogue import Catalogue
from star_jobs.serve.models import RecommendRequest
from star_jobs.serve.problems import Problem
from star_jobs.trajectory.prompt import ShownTask, shown

ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class PreparedTask:
    """A task, and what had to be left out of the request to make it."""

    task: ShownTask
    warnings: list[str]


def prepare(request: RecommendRequest, catalogue: Catalogue, max_candidates: int) -> PreparedTask:
    """Build the ranking task. Raises Problem 422 naming the field that has to change.

    The candidates are shuffled, with a seed that depends on the user and the *set* of candidates: a caller's order
    (often another recommender's ranking) would reach the student through position bias, and the same request always
    gives the same prompt.
    """
    items, users = catalogue.dataset.items, catalogue.users
    _check_candidates(request.candidates, items, max_candidates)
    history, warnings = _history(request, items, users)
    user = request.user_id or ANONYMOUS
    seed = _seed(user, request.candidates)
    shuffled = sorted(request.candidates)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - repeatable on purpose
    task = RankingTask(
        task_id=f"request-{seed:08x}",
        type=TaskType.CLASSIC,
        user_id=user,
        candidates=tuple(shuffled),
        seed=seed,
        history=history,
        profile=users.profile(user) if request.profile is None else request.profile,
    )
    return PreparedTask(task=shown(task, catalogue.summaries), warnings=warnings)


def _check_candidates(candidates: list[str], items: Mapping[str, Item], limit: int) -> None:
    if len(candidates) > limit:
        raise Problem(
            422,
            "too-many-candidates",
            f"candidates has {len(candidates)} items and this deployment ranks at most {limit} at once; "
            "send the best of your retrieval stage.",
            field="candidates",
        )
    repeated = [item for item, count in Counter(candidates).items() if count > 1]
    if repeated:
        raise Problem(
            422,
            "repeated-candidate",
            f"candidates lists {repeated[0]!r} more than once; send each item once.",
            field=f"candidates[{_last_index(candidates, repeated[0])}]",
        )
    unknown = [(index, item) for index, item in enumerate(candidates) if item not in items]
    if unknown:
        index, item = unknown[0]
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise Problem(
            422,
            "unknown-candidate",
            f"candidates[{index}]: item {item!r}{more} is not in the dataset this deployment was made with; "
            "leave it out, or deploy with a dataset snapshot that has it.",
            field=f"candidates[{index}]",
        )


def _history(
    request: RecommendRequest, items: Mapping[str, Item], users: KnownUsers
) -> tuple[tuple[Interaction, ...], list[str]]:
    if request.history:
        return _given_history(request, items)
    if request.user_id is None:
        raise Problem(422, "empty-history", "send user_id, for a user the dataset knows, or history.", field="history")
    history = users.history(request.user_id)
    if not history:
        raise Problem(
            422,
            "empty-history",
            f"user {request.user_id!r} is not in the dataset and the request has no history; "
            "send at least one event in history.",
            field="history",
        )
    return history, []


def _given_history(request: RecommendRequest, items: Mapping[str, Item]) -> tuple[tuple[Interaction, ...], list[str]]:
    events = request.history or []
    known = [event.interaction(index) for index, event in enumerate(events) if event.item_id in items]
    unknown = [event.item_id for event in events if event.item_id not in items]
    if not known:
        raise Problem(
            422,
            "empty-history",
            f"history: none of its {len(events)} items is in the dataset (first: {events[0].item_id!r}); "
            "send events on items that the dataset has.",
            field="history",
        )
    warnings = [f"history: left out {len(unknown)} unknown items, e.g. {unknown[0]!r}"] if unknown else []
    if all(event.timestamp is not None for event in events):
        known.sort(key=lambda event: event.timestamp)
    return tuple(known), warnings


def _last_index(values: list[str], value: str) -> int:
    return len(values) - 1 - values[::-1].index(value)


def _seed(user: str, candidates: list[str]) -> int:
    """Return a seed of 32 bits from the user and the set of candidates."""
    text = "\x00".join([user, *sorted(candidates)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
