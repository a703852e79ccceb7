"""What a retraining saves: the demo's data after 5% new interactions, prepared, verbalized and taught again.

    make bench-retrain          or          .venv/bin/python -m tests.bench.bench_retrain [--size demo]

MovieLens-100K is cut in time: what came first is the first week's source, all of it the second's. So the new
interactions arrive as they do in life, at the end, from a minority of users and some new ones. The real stages run, as
the demo's manifests say and the operator's builders plan them, against a real S3 server and a **fake** LLM server that
answers at once and understands nothing: what is counted is calls. The second week runs twice, once going on from the
first week's results (`previous`, as a pipeline wires it), once from nothing. The last line is the result:

    RESULT {"work_saved": ..., "verbalization_saved": ..., "teacher_saved": ..., "calls_full": ..., ...}

work_saved           LLM calls that were not made again, by all calls of the second week's run from nothing
verbalization_saved  the same of its Verbalization alone
teacher_saved        the same of its TeacherRun alone
new_interactions     of the second week's source, and new_users who had none before
new_in_snapshot      of these in its snapshot's interactions; new_hidden are what the leak rules keep out of them (a
                     task's answer, and what came after it)
train_tasks_kept     share of the second week's training tasks that are tasks of the first week, to the byte
trajectories_equal   whether those of the two second runs are the same, to the byte
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from star_cli.demo.manifests import Size, load
from star_contracts.artifact import ArtifactRef
from star_contracts.job import GenerateTrajectories, LLMEndpoint, ModelSource, PrepareDataset, VerbalizeSignals
from star_jobs.datasets.snapshot import Dataset
from star_jobs.storage import ObjectStore
from star_jobs.teacher.collect import TRAJECTORIES
from star_operator.builders import recdataset, teacherrun, verbalization
from star_operator.builders.step import Inputs
from tests.support.fakellm import FakeLLM, fake_llm
from tests.support.goldens import CHECKPOINT, parse, settings
from tests.support.jobs import JobRunner, environment
from tests.support.movielens import FILES, movielens_100k
from tests.support.s3 import start_s3

ROOT = Path(__file__).parents[2]
NEW = 0.05
"""New interactions, by those there were before."""
PLANNERS: Mapping[str, Any] = {"RecDataset": recdataset, "Verbalization": verbalization, "TeacherRun": teacherrun}
COLUMNS = ["user_id", "item_id", "timestamp"]


@dataclass(frozen=True)
class Made:
    """What a run made, and the calls it took by kind."""

    artifacts: Mapping[str, ArtifactRef]
    calls: Mapping[str, int]


@dataclass(frozen=True)
class Week:
    """A pipeline's first three stages over one version of the source, in a place of its own."""

    jobs: JobRunner
    llm: FakeLLM
    manifests: Mapping[str, Any]
    source: str

    def run(self, previous: Mapping[str, ArtifactRef]) -> Made:
        """Run the stages, going on from an earlier run's artifacts where some are given."""
        made: dict[str, ArtifactRef] = {}
        calls: dict[str, int] = {}
        for kind, role in (("RecDataset", "dataset"), ("Verbalization", "signals"), ("TeacherRun", "trajectories")):
            before = len(self.llm.requests)
            made[role] = self._stage(kind, made, previous.get(role))
            calls[role] = len(self.llm.requests) - before
            sys.stderr.write(f"{self.jobs.uri}: {kind} is done, {calls[role]} calls\n")
        return Made(made, calls)

    def _stage(self, kind: str, made: Mapping[str, ArtifactRef], previous: ArtifactRef | None) -> ArtifactRef:
        resource, builder = parse(self.manifests[kind]), PLANNERS[kind]
        artifacts = {**made, **({"previous": previous} if previous is not None else {})}
        inputs = Inputs(artifacts, {"llm": ModelSource(artifact=CHECKPOINT)})
        done: dict[str, ArtifactRef] = {}
        for name in builder.STEPS:
            step = builder.plan(name, resource, inputs, done, settings())
            area = f"{kind}-{step.work_area[0]}".lower()
            for index in range(step.shards):
                ended = self.jobs.run(
                    self._here(step.stage), step=area, output=f"{kind}-{name}".lower(), shards=step.shards, index=index
                )
                if ended.result.error is not None:
                    raise SystemExit(f"{kind}, step {name}: {ended.result.error.message}")
            if step.has_artifact:
                done[name] = ended.artifact
        return done[builder.STEPS[-1]]

    def _here(self, stage: Any) -> Any:
        """Return the stage with the source and the model server of this machine."""
        if isinstance(stage, PrepareDataset):
            return stage.model_copy(update={"source": self.source})
        if isinstance(stage, VerbalizeSignals | GenerateTrajectories):
            endpoint: LLMEndpoint = self.llm.endpoint(concurrency=stage.llm.concurrency, timeout_seconds=120)
            return stage.model_copy(update={"llm": endpoint})
        return stage


def interactions() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first week's interactions and the new ones, in order of time; columns as in RecBole's file."""
    table = pl.read_csv(movielens_100k() / FILES[0], separator="\t", infer_schema=False)
    user, item, _, time = table.columns
    table = table.sort(pl.col(time).cast(pl.Float64), pl.col(user), pl.col(item))
    first = round(len(table) / (1 + NEW))
    return table[:first], table[first:]


def upload(store: ObjectStore, uri: str, table: pl.DataFrame, folder: Path) -> str:
    """Put a source into the store; return its prefix."""
    path = folder / FILES[0]
    table.write_csv(path, separator="\t")
    for one in (path, *(movielens_100k() / name for name in FILES[1:])):
        store.upload(one, f"{uri}/{one.name}")
    return uri


def in_snapshot(dataset: Dataset, new: pl.DataFrame) -> int:
    """Return how many of the new interactions the snapshot's have."""
    user, item, _, time = new.columns
    rows = new.select(
        pl.col(user).alias("user_id"), pl.col(item).alias("item_id"), pl.col(time).cast(pl.Int64).alias("timestamp")
    )
    return rows.join(dataset.interactions().select(COLUMNS), on=COLUMNS, how="semi").height


def measure(size: Size, folder: Path) -> dict[str, Any]:
    """Run the two weeks and compare them."""
    manifests = {manifest["kind"]: manifest for manifest in reversed(load(ROOT, size))}
    old, new = interactions()
    with ExitStack() as stack:
        server, llm = stack.enter_context(start_s3()), stack.enter_context(fake_llm())
        stack.enter_context(environment(server.environment()))
        store = ObjectStore(server.store())
        jobs = JobRunner(server, store, server.new_uri("week-1"), folder)
        week_1 = Week(jobs, llm, manifests, upload(store, f"{jobs.uri}/source", old, folder))
        first = week_1.run({})
        there = replace(jobs, uri=server.new_uri("week-2"))
        week_2 = replace(week_1, jobs=there, source=upload(store, f"{there.uri}/source", pl.concat([old, new]), folder))
        again = week_2.run({role: ref for role, ref in first.artifacts.items() if role != "dataset"})
        anew = replace(week_2, jobs=replace(jobs, uri=server.new_uri("anew"))).run({})
        before, now = (Dataset(jobs.fetch(run.artifacts["dataset"])) for run in (first, again))
        files = [jobs.fetch(run.artifacts["trajectories"]) / TRAJECTORIES for run in (again, anew)]
        equal = files[0].read_bytes() == files[1].read_bytes()
    tasks = {task.model_dump_json() for task in before.tasks("train")}
    kept = [task.model_dump_json() in tasks for task in now.tasks("train")]
    full, made = sum(anew.calls.values()), sum(again.calls.values())
    users = set(new[new.columns[0]])
    found = in_snapshot(now, new)
    return {
        "work_saved": round(1 - made / full, 4),
        "verbalization_saved": round(1 - again.calls["signals"] / anew.calls["signals"], 4),
        "teacher_saved": round(1 - again.calls["trajectories"] / anew.calls["trajectories"], 4),
        "calls_full": full,
        "calls_again": made,
        "new_interactions": len(new),
        "new_share": round(len(new) / len(old), 4),
        "users_with_new": len(users),
        "new_users": len(users - set(old[old.columns[0]])),
        "new_in_snapshot": found,
        "new_hidden": len(new) - found,
        "train_tasks_kept": round(sum(kept) / len(kept), 4),
        "trajectories_equal": equal,
        "size": str(size),
    }


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.DEMO, help="of the demo's manifests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.size, Path(folder))
    sys.stdout.write(f"RESULT {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
