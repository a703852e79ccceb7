"""Which long histories are to be summarized, cut into parts that every shard, every retry and the collector agree on.

The summaries of one user follow upon each other, those of different users do not: a part is a few users' histories.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from star_contracts.data import Interaction, RankingTask, Summary
from star_contracts.settings import SignalScope
from star_jobs.datasets.snapshot import SPLITS, Dataset
from star_jobs.datasets.users import KnownUsers
from star_jobs.lookup.layout import SUMMARY
from star_jobs.trajectory.prompt import summarized, summary_key
from star_jobs.verbalize.worklist import PARTS

USERS = 16
"""Users in a part file: what a killed pod has to make again at most, for each part in flight."""


@dataclass(frozen=True)
class Beginning:
    """The beginning of a task's history that one summary is made of."""

    task: RankingTask
    start: int
    """Where its last group starts."""
    end: int

    @property
    def key(self) -> str:
        """The summary's key."""
        return summary_key(self.task.user_id, self.task.history[: self.end])

    @property
    def before(self) -> str:
        """The key of the summary it goes on from; empty for the first."""
        return summary_key(self.task.user_id, self.task.history[: self.start]) if self.start else ""

    @property
    def group(self) -> Sequence[Interaction]:
        """The interactions that are new in it."""
        return self.task.history[self.start : self.end]


@dataclass(frozen=True)
class LongPast:
    """One user's beginnings, each once, and after the one it goes on from; read when their turn comes."""

    count: int
    load: Callable[[], tuple[Beginning, ...]]


@dataclass(frozen=True)
class Pasts:
    """The long histories of some users."""

    start: int
    """The first one's place among the users with long histories."""
    users: tuple[LongPast, ...]
    record = Summary

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(user.count for user in self.users)

    @property
    def name(self) -> str:
        """The part file's name in the work area."""
        return f"{PARTS}/summaries-{self.start:07d}.jsonl"

    def beginnings(self) -> list[tuple[Beginning, ...]]:
        """Read the users' beginnings."""
        return [user.load() for user in self.users]

    def identities(self) -> list[tuple[str, str]]:
        """Return the entries' (kind, key), in order."""
        return [(SUMMARY, beginning.key) for user in self.beginnings() for beginning in user]


@dataclass(frozen=True)
class Served:
    """The dataset's users as those who are asked about: what a request about one of them is made into."""

    users: KnownUsers
    like: RankingTask
    """A task of as many candidates."""

    def beginnings(self, user_id: str) -> tuple[Beginning, ...]:
        """Return the beginnings of a user's history that are summarized."""
        about = {"user_id": user_id, "history": self.users.history(user_id), "profile": self.users.profile(user_id)}
        return tuple(beginnings(self.like.model_copy(update=about)))

    def long(self) -> dict[str, int]:
        """Return user id -> number of beginnings, for users who have any."""
        candidates = len(self.like.candidates)
        counts = {user: len(summarized(length, candidates)) for user, length in self.users.lengths().items()}
        return {user: count for user, count in counts.items() if count}


def pasts(dataset: Dataset, scope: SignalScope, limit: int | None) -> list[Pasts]:
    """Return the histories that are longer than a prompt shows, of `limit` users at most.

    They are those of the dataset's tasks and, in scope All, those that its users have when they are served.
    """
    tasks = [task for split in SPLITS for task in dataset.tasks(split)]
    by_user: dict[str, dict[str, Beginning]] = {}
    for task in tasks:
        for found in beginnings(task):
            by_user.setdefault(task.user_id, {}).setdefault(found.key, found)
    others: list[LongPast] = []
    if scope is SignalScope.ALL and tasks:
        served = Served(KnownUsers.of(dataset), tasks[0])
        for user, of_tasks in by_user.items():
            for found in served.beginnings(user):
                of_tasks.setdefault(found.key, found)
        long = served.long().items()
        others = [LongPast(count, partial(served.beginnings, user)) for user, count in long if user not in by_user]
    users = [LongPast(len(found), partial(tuple, found.values())) for found in by_user.values()]
    users = [*users, *others][:limit]
    return [Pasts(at, tuple(users[at : at + USERS])) for at in range(0, len(users), USERS)]


def beginnings(task: RankingTask) -> Iterable[Beginning]:
    """Return the beginnings of a task's history that are summarized, the shortest first."""
    ends = summarized(len(task.history), len(task.candidates))
    return (Beginning(task, start, end) for start, end in pairwise([0, *ends]))
