"""A pod that evaluates: real artifacts, real S3, a scripted stand-in for the model server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.data import RankingTask
from star_contracts.job import Compared, Evaluate, JobSpec, LLMEndpoint
from star_contracts.result import JobResult
from star_contracts.settings import EvaluationSettings, Sampling
from star_jobs import runtime
from star_jobs.evaluate import run as stage_module
from star_jobs.evaluate.report import Report
from star_jobs.llm import failures
from star_jobs.storage import ObjectStore, fetch
from tests.support import world
from tests.support.s3 import S3Server

SETTINGS = EvaluationSettings(types=world.TYPES, bootstrap=200, sampling=Sampling(max_tokens=512, seed=1))


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)


@dataclass
class Stage:
    """A pod that evaluates."""

    server: S3Server
    store: ObjectStore
    uri: str
    folder: Path
    dataset: ArtifactRef
    signals: ArtifactRef

    def run(
        self,
        llm: LLMEndpoint | None,
        settings: EvaluationSettings = SETTINGS,
        attempt: int = 1,
        entry: runtime.Entry = stage_module.run,
        against: ArtifactRef | None = None,
        beside: Mapping[str, ArtifactRef] | None = None,
    ) -> tuple[int, JobResult]:
        compared = {"against": Compared(artifact=against, name="before")} if against else {}
        for place, (name, artifact) in enumerate((beside or {}).items()):
            compared[f"beside[{place}]"] = Compared(artifact=artifact, name=name)
        stage = Evaluate(dataset=self.dataset, signals=self.signals, llm=llm, settings=settings, compared=compared)
        work_hash = value_hash(settings.to_json_dict())
        spec = JobSpec(
            store=self.server.store(),
            producer=Producer(
                kind="Evaluation", namespace="ns", name="e", uid="u", step="evaluate", work_hash=work_hash
            ),
            output=f"{self.uri}/out/{attempt}",
            work=f"{self.uri}/work",
            stage=stage,
        )
        (self.folder / "job.json").write_text(spec.model_dump_json(by_alias=True))
        code = runtime.main(lambda _: entry)
        return code, JobResult.model_validate_json((self.folder / "end").read_bytes())

    def forget_answers(self) -> None:
        """Empty the work area: the next evaluation is one of another model."""
        for path in self.server.file(f"{self.uri}/work/answers").glob("*"):
            path.unlink()

    def page(self, result: JobResult) -> str:
        assert result.artifact is not None
        folder = fetch(self.store, result.artifact, self.folder / f"report-{result.artifact.digest[-8:]}")
        return (folder / "report.html").read_text()

    def report(self, result: JobResult) -> Report:
        assert result.artifact is not None
        folder = fetch(self.store, result.artifact, self.folder / f"report-{result.artifact.digest[-8:]}")
        return Report.model_validate_json((folder / "report.json").read_bytes())


MakeStage = Callable[[Sequence[RankingTask]], Stage]


@pytest.fixture
def make_stage(
    s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeStage:
    monkeypatch.setenv("STAR_JOB_SPEC", str(tmp_path / "job.json"))
    monkeypatch.setenv("STAR_TERMINATION_LOG", str(tmp_path / "end"))
    monkeypatch.setenv("STAR_WORK_DIR", str(tmp_path / "work"))

    def make(test: Sequence[RankingTask]) -> Stage:
        dataset = world.write_dataset(tmp_path / "dataset", test)
        signals = world.write_signals(tmp_path / "signals", *test)
        return Stage(
            s3_server,
            store,
            uri,
            tmp_path,
            world.publish(store, f"{uri}/dataset", dataset, ArtifactKind.DATASET),
            world.publish(store, f"{uri}/signals", signals, ArtifactKind.VERBALIZATION),
        )

    return make


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return make_stage(world.tasks(10))
