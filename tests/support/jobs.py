"""Running one stage as its pod would: spec file, work folder, termination message, exit code."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from star_contracts.artifact import ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.job import JobSpec, Shard, Stage
from star_contracts.result import JobError, JobResult
from star_jobs import __main__ as entry_point
from star_jobs import runtime
from star_jobs.storage import ObjectStore, WorkArea, fetch
from tests.support.s3 import S3Server


@dataclass(frozen=True)
class Finished:
    """How a job ended."""

    code: int
    result: JobResult

    @property
    def artifact(self) -> ArtifactRef:
        """The artifact; the job must have made one."""
        assert self.result.artifact is not None, self.result
        return self.result.artifact

    @property
    def error(self) -> JobError:
        """The error; the job must have failed."""
        assert self.result.error is not None, self.result
        return self.result.error


@dataclass(frozen=True)
class JobRunner:
    """Runs stages against a store, under one prefix and in one local folder."""

    server: S3Server
    store: ObjectStore
    uri: str
    folder: Path

    def work(self, step: str = "step") -> WorkArea:
        """The work area of a step."""
        return WorkArea(self.store, f"{self.uri}/work/{step}")

    def run(
        self,
        stage: Stage,
        *,
        step: str = "step",
        output: str = "",
        shards: int = 1,
        index: int = 0,
        memo: bool = False,
        inputs: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a stage in this process, as the pod with that completion index; with a memo equal work is reused."""
        spec = JobSpec(
            store=self.server.store(),
            producer=Producer(
                kind="Test", namespace="ns", name="n", uid="u", step=step, work_hash=value_hash(stage.to_json_dict())
            ),
            output=f"{self.uri}/{output or stage.stage}",
            work=self.work(step).uri,
            memo=f"{self.uri}/memo/{step}.json" if memo else None,
            inputs=dict(inputs or {}),
            shard=Shard(count=shards),
            stage=stage,
        )
        return self.run_spec(spec, index)

    def run_spec(self, spec: JobSpec, index: int = 0) -> Finished:
        """Run what a job spec says in this process, as the pod with that completion index."""
        message = self.folder / "termination-log"
        message.unlink(missing_ok=True)
        (self.folder / "job.json").write_text(spec.model_dump_json(by_alias=True))
        with environment(self._variables(index)):
            code = runtime.main(entry_point.load_entry)
        return Finished(code, JobResult.model_validate_json(message.read_bytes()))

    def fetch(self, ref: ArtifactRef) -> Path:
        """Download an artifact to look at it."""
        return fetch(self.store, ref, self.folder / "looked-at" / ref.digest[-16:])

    def _variables(self, index: int) -> dict[str, str]:
        return {
            **self.server.environment(),
            "STAR_JOB_SPEC": str(self.folder / "job.json"),
            "STAR_TERMINATION_LOG": str(self.folder / "termination-log"),
            "STAR_WORK_DIR": str(self.folder / "pod"),
            "JOB_COMPLETION_INDEX": str(index),
        }


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
