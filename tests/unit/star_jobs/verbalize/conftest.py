"""A dataset with its neighbours, the stages made of them, and models that answer for tests."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.data import SignalKind, TaskType
from star_contracts.job import (
    CollectSignals,
    ComputeNeighbours,
    LLMEndpoint,
    PrepareDataset,
    VerbalizeSignals,
)
from star_contracts.settings import (
    DatasetFormat,
    LeakageRules,
    NeighbourSettings,
    Sampling,
    SignalScope,
    TaskSettings,
)
from star_jobs.llm import failures
from star_jobs.storage import ObjectStore
from star_jobs.verbalize.pairs import Neighbours
from tests.support.fakellm import Answer, Request
from tests.support.jobs import Finished, JobRunner, environment
from tests.support.movielens import movielens_100k
from tests.support.s3 import S3Server

STEP = "verbalize"


@dataclass(frozen=True)
class Library:
    """A dataset, its neighbours, and the stages made of them."""

    jobs: JobRunner
    dataset: ArtifactRef
    neighbours: ArtifactRef

    def verbalize(self, llm: LLMEndpoint, *, shards: int = 1, index: int = 0, **changes: object) -> Finished:
        values: dict[str, object] = {
            "dataset": self.dataset,
            "neighbours": self.neighbours,
            "llm": llm,
            "sampling": Sampling(max_tokens=96),
            "scope": SignalScope.TASKS,
            "limit": 40,
        }
        stage = VerbalizeSignals.model_validate(values | changes)
        return self.jobs.run(stage, step=STEP, shards=shards, index=index)

    def collect(
        self,
        scope: SignalScope = SignalScope.TASKS,
        limit: int | None = 40,
        previous: ArtifactRef | None = None,
        output: str = "",
    ) -> Finished:
        stage = CollectSignals(
            dataset=self.dataset, neighbours=self.neighbours, scope=scope, limit=limit, previous=previous
        )
        return self.jobs.run(stage, step=STEP, output=output)

    def near(self, kind: SignalKind) -> dict[str, tuple[str, ...]]:
        found = Neighbours(self.jobs.fetch(self.neighbours))
        lists = [found.lists(kind, part, found.rows(kind, part)) for part in found.parts(kind)]
        return {one.key: one.items for part in lists for one in part}

    def newer(self, **changes: object) -> "Library":
        """The same library in another run, with nothing made yet."""
        for name in self.parts():
            self.jobs.work(STEP).delete(name)
        return replace(self, **changes)  # type: ignore[arg-type]

    def parts(self) -> dict[str, bytes | None]:
        work = self.jobs.work(STEP)
        return {name: work.get(name) for name in work.list("parts")}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)


@pytest.fixture(scope="session")
def inputs(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactRef, ArtifactRef]:
    """A dataset and its neighbours, made once."""
    with environment(s3_server.environment()):
        store = ObjectStore(s3_server.store())
    jobs = JobRunner(s3_server, store, s3_server.new_uri("inputs"), tmp_path_factory.mktemp("inputs"))
    for path in movielens_100k().iterdir():
        store.upload(path, f"{jobs.uri}/source/{path.name}")
    wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=5, train=8, test=4, history_length=6)
    prepare = PrepareDataset(
        format=DatasetFormat.MOVIELENS, source=f"{jobs.uri}/source", tasks=wanted, leakage=LeakageRules()
    )
    dataset = jobs.run(prepare).artifact
    return dataset, jobs.run(ComputeNeighbours(dataset=dataset, neighbours=NeighbourSettings(k=10))).artifact


@pytest.fixture
def library(jobs: JobRunner, inputs: tuple[ArtifactRef, ArtifactRef]) -> Library:
    return Library(jobs, *inputs)


def shown(request: Request) -> list[str]:
    """The numbered titles of a prompt."""
    return re.findall(r"^\d+\. (.+)$", request["messages"][-1]["content"], re.MULTILINE)


def tidy(request: Request) -> str:
    """A good answer, different for each prompt."""
    titles = shown(request)
    items = f"1, {len(titles)}, 1"
    return json.dumps({"name": titles[0][:20], "summary": f"Like {titles[-1]}"[:48], "items": items})


def sometimes(share: int, bad: str | Answer) -> Callable[[Request], Answer | str]:
    """A model that fails for good at every `share`-th prompt."""

    def script(request: Request) -> Answer | str:
        number = sum(map(ord, request["messages"][-1]["content"]))
        return bad if number % share == 0 else tidy(request)

    return script
