"""A tiny world for tests: twelve films, some users, ranking tasks, look-up signals, and a scripted student.

The dataset and the look-up store are real artifacts in the real formats. The student is a script for the fake LLM
server of `tests.support.fakellm`: it writes the trained format with one tool call, and its ranking is given by a rule.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.data import (
    GroundTruth,
    Interaction,
    Item,
    RankingTask,
    Signal,
    SignalCategory,
    SignalKind,
    Summary,
    TaskType,
)
from star_jobs.lookup import write_store
from star_jobs.storage import ArtifactWriter, ObjectStore, write_jsonl
from star_jobs.trajectory.prompt import summarized, summary_key

ITEMS = tuple(Item(item_id=f"i{n}", title=f"Film {n}", categories=("Drama",)) for n in range(12))
USERS = ("u1", "u2", "u3", "u4")
TYPES = (TaskType.CLASSIC, TaskType.LONG_TERM)
HISTORY_LENGTH = 20
Ranker = Callable[[list[str]], Sequence[str]]
Request = dict[str, object]

_CANDIDATE = re.compile(r"^(\S+) ", re.MULTILINE)


def interactions() -> pl.DataFrame:
    """Each user liked six films in a row; i3 and i4 are everybody's."""
    rows = [(user, f"i{(start + n) % 12}", 100 * n, 4.0) for start, user in enumerate(USERS) for n in range(6)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")


def tasks(count: int, types: Sequence[TaskType] = TYPES) -> list[RankingTask]:
    """`count` tasks for each type, five candidates each; the truth of every task is its third candidate."""
    made = []
    for kind in types:
        for n in range(count):
            history = tuple(Interaction(item_id=f"i{i}", timestamp=i, rating=4.0) for i in range(3))
            candidates = tuple(f"i{(n + step) % 12}" for step in range(5, 10))
            made.append(
                RankingTask(
                    task_id=f"{kind.value}-{n}",
                    type=kind,
                    user_id=USERS[n % 4],
                    candidates=candidates,
                    seed=n,
                    history=history,
                )
            )
    return made


def with_past(task: RankingTask, length: int) -> RankingTask:
    """The task with a history of this length. Prompts of the small tasks here show 6 interactions."""
    history = tuple(Interaction(item_id=f"i{n % 12}", timestamp=100 * n, rating=4.0) for n in range(length))
    return task.model_copy(update={"history": history})


def summaries(*tasks: RankingTask) -> list[Summary]:
    """A summary of each beginning of the tasks' histories that has one; it says of whom and how much it is."""
    made = {}
    for task in tasks:
        for end in summarized(len(task.history), len(task.candidates)):
            key = summary_key(task.user_id, task.history[:end])
            made[key] = Summary(key=key, text=f"The first {end} films of {task.user_id}.")
    return list(made.values())


class KnownSummaries:
    """Summaries in memory."""

    def __init__(self, *known: Summary) -> None:
        self._known = {summary.key: summary for summary in known}

    def summary(self, key: str) -> Summary | None:
        return self._known.get(key)


def write_dataset(folder: Path, test: Sequence[RankingTask]) -> Path:
    """Write the dataset's files."""
    truth = [GroundTruth(task_id=task.task_id, item_id=task.candidates[2]) for task in test]
    write_jsonl(folder / "items.jsonl", ITEMS)
    for split, of_split in (("test", test), ("train", [])):
        write_jsonl(folder / "tasks" / f"{split}.jsonl", of_split)
        write_jsonl(folder / "truth" / f"{split}.jsonl", truth if split == "test" else [])
    (folder / "tables").mkdir(exist_ok=True)
    rows = [{"user_id": user, "source": "test", "occupation": "critic"} for user in USERS]
    (folder / "tables" / "user.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "stats.json").write_text(json.dumps({"historyLength": HISTORY_LENGTH}))
    interactions().write_parquet(folder / "interactions.parquet")
    return folder


def signals() -> list[Signal]:
    """A signal for each user and item."""
    category = SignalCategory(name="Drama", summary="quiet films", representative_items=("i3",))
    keys = [(SignalKind.USER_CF, user) for user in USERS] + [(SignalKind.ITEM_CF, item.item_id) for item in ITEMS]
    return [Signal(kind=kind, key=key, categories=(category,), neighbours=("i3", "i4")) for kind, key in keys]


def write_signals(folder: Path, *long: RankingTask) -> Path:
    """Write the look-up store, with the summaries of some tasks' long histories."""
    write_store(folder, [*signals(), *summaries(*long)])
    return folder


def publish(
    store: ObjectStore, uri: str, folder: Path, kind: ArtifactKind, inputs: Mapping[str, str] | None = None
) -> ArtifactRef:
    """Make a folder an artifact."""
    writer = ArtifactWriter(store, uri)
    writer.add_tree(folder)
    producer = Producer(kind="Test", namespace="ns", name="n", uid="u", step="s", work_hash=value_hash(uri))
    return ArtifactRef(uri=uri, digest=writer.commit(kind, producer, inputs or {}, {}).digest())


def as_given(candidates: list[str]) -> Sequence[str]:
    """Rank the candidates as they stand in the prompt."""
    return candidates


def by_number(candidates: list[str]) -> Sequence[str]:
    """Rank the candidates by their number."""
    return sorted(candidates, key=lambda item: int(item[1:]))


def scripted_student(rank: Ranker = as_given, *, tools: bool = True) -> Callable[[Request], str]:
    """Return a script that answers in the trained format, after one User-CF look-up where `tools` allows it."""

    def answer(request: Request) -> str:
        messages: list[dict[str, str]] = request["messages"]  # type: ignore[assignment]
        prompt = messages[1]["content"]
        user = re.search(r"^User (\S+)", prompt, re.MULTILINE)
        assert user is not None, prompt
        if tools and messages[-1]["role"] != "assistant":
            name = user[1].rstrip(":")
            return f'<plan><JSON>["user_profile"]</JSON></plan>\n<user_profile><tool_call>User-CF("{name}")'
        ranking = rank(_CANDIDATE.findall(prompt.split("Candidates:\n")[1]))
        listed = ",".join(f'"{item}"' for item in ranking)
        start = "" if tools else '<plan><JSON>["user_profile"]</JSON></plan>\n<user_profile>'
        return (
            f'{start}<Thinking>Likes drama.</Thinking><JSON>["drama"]</JSON></user_profile>\n'
            f'<reflection><JSON>{{"correct":"yes"}}</JSON></reflection>\n<recommend><JSON>[{listed}]</JSON>'
        )

    return answer
