"""A dataset with training tasks and a look-up store as real artifacts, and job specs around them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.data import GroundTruth, RankingTask
from star_contracts.job import CollectTrajectories, GenerateTrajectories, JobSpec, LLMEndpoint, Shard, Stage
from star_contracts.settings import Agents, Sampling, TrajectoryFilter
from star_jobs.llm import failures
from star_jobs.storage import ObjectStore, WorkArea, write_jsonl
from tests.support.s3 import S3Server
from tests.support.world import publish, tasks, with_past, write_dataset, write_signals

BRIEF = Sampling(max_tokens=96)


@dataclass(frozen=True)
class Classroom:
    """What a teacher needs, and the specs of its two stages."""

    server: S3Server
    store: ObjectStore
    uri: str
    dataset: ArtifactRef
    signals: ArtifactRef
    tasks: list[RankingTask]

    @property
    def work(self) -> WorkArea:
        return WorkArea(self.store, f"{self.uri}/work")

    def spec(self, stage: Stage, *, shards: int = 1, output: str = "out") -> JobSpec:
        return JobSpec(
            store=self.server.store(),
            producer=Producer(
                kind="TeacherRun", namespace="ns", name="t", uid="u", step="s", work_hash=value_hash(self.uri)
            ),
            output=f"{self.uri}/{output}",
            work=self.work.uri,
            shard=Shard(count=shards),
            stage=stage,
        )

    def generate(self, llm: LLMEndpoint, **changes: object) -> GenerateTrajectories:
        values: dict[str, object] = {
            "dataset": self.dataset,
            "signals": self.signals,
            "llm": llm,
            "agents": Agents(),
            "passes": 2,
            "sampling": BRIEF,
            "filter": TrajectoryFilter.HIT_AT_1,
        }
        return GenerateTrajectories.model_validate(values | changes)

    def collect(self, **changes: object) -> CollectTrajectories:
        values: dict[str, object] = {"dataset": self.dataset, "passes": 2, "filter": TrajectoryFilter.HIT_AT_1}
        return CollectTrajectories.model_validate(values | changes)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)


@pytest.fixture
def make_classroom(
    s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Classroom]:
    """Build a classroom with this many training tasks a type; the first one's history is longer than is shown."""
    monkeypatch.setenv("STAR_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)

    def make(count: int) -> Classroom:
        train = [task if n else with_past(task, 7) for n, task in enumerate(tasks(count))]
        folder = write_dataset(tmp_path / "dataset", [])
        write_jsonl(folder / "tasks/train.jsonl", train)
        write_jsonl(
            folder / "truth/train.jsonl",
            [GroundTruth(task_id=task.task_id, item_id=task.candidates[2]) for task in train],
        )
        dataset = publish(store, f"{uri}/dataset", folder, ArtifactKind.DATASET)
        signals = publish(
            store, f"{uri}/signals", write_signals(tmp_path / "signals", *train), ArtifactKind.VERBALIZATION
        )
        return Classroom(s3_server, store, uri, dataset, signals, train)

    return make


@pytest.fixture
def classroom(make_classroom: Callable[[int], Classroom]) -> Classroom:
    """Two types of four tasks."""
    return make_classroom(4)
