"""What a retraining saves: the demo's data after 5% new interactions, prepared, verbalized and taught again.

    make bench-retrain          or          .venv/bin/python -m tests.bench.bench_retrain [--size demo] [--curve]

MovieLens-100K is cut in time: what came first is the first week's source, all of it the second's. So the new
interactions arrive as they do in life, at the end, from a minority of users and some new ones. The real stages run, as
the demo's manifests say and the operator's builders plan them, against a real S3 server and a **fake** LLM server that
answers at once and understands nothing: what is counted is calls. The demo is retrained as the sample schedule
(manifests/samples/retrainschedule.yaml) says: with its tasks.testRenewal and neighbours.tolerance. The second week runs
twice, once going on from the first week's results (`previous`, as a pipeline wires it), once from nothing: that is the
full run. The last line is the result:

    RESULT {"work_saved": ..., "verbalization_saved": ..., "teacher_saved": ..., "calls_full": ..., ...}

work_saved           LLM calls that were not made again, by all calls of the second week's run from nothing
verbalization_saved  the same of its Verbalization alone
teacher_saved        the same of its TeacherRun alone
new_interactions     of the second week's source, and new_users who had none before
new_in_snapshot      of these in its snapshot's interactions; new_hidden are what the leak rules keep out of them (a
                     task's answer, and what came after it)
new_in_graph         of those in the snapshot, edges of the graph that the neighbours were found in
train_tasks_kept     share of the second week's training tasks that are tasks of the first week, to the byte
test_tasks_kept      the same of the test tasks
lists_kept           share of the signals whose neighbours are the first week's, within the tolerance
evidence_changed     share of the neighbours shown to the model that today's graph would not show, mean of all signals
trajectories_equal   whether those of the two second runs are the same, to the byte: without tolerance they must be
unchanged_calls      calls of a third run, which goes on from the second with no new data: 0, and all is reused

`--curve` prints a line for each of several settings before, from none (all is exact) to the schedule's.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
import yaml

from star_cli.demo.manifests import Size, load
from star_contracts.artifact import ArtifactRef
from star_contracts.data import Signal, SignalKind
from star_contracts.job import GenerateTrajectories, JobSpec, LLMEndpoint, ModelSource, PrepareDataset, VerbalizeSignals
from star_jobs.datasets.snapshot import Dataset
from star_jobs.lookup import SignalStore
from star_jobs.storage import ObjectStore
from star_jobs.teacher.collect import TRAJECTORIES
from star_jobs.verbalize.pairs import Neighbours
from star_operator.builders import recdataset, teacherrun, verbalization
from star_operator.builders.job import job_spec
from star_operator.builders.starpipeline import merge_patch
from star_operator.builders.step import Inputs, Owner
from tests.support.fakellm import FakeLLM, fake_llm
from tests.support.goldens import CHECKPOINT, parse, settings
from tests.support.jobs import JobRunner, environment
from tests.support.movielens import FILES, movielens_100k
from tests.support.s3 import start_s3

ROOT = Path(__file__).parents[2]
SCHEDULE = ROOT / "manifests/samples/retrainschedule.yaml"
NEW = 0.05
"""New interactions, by those there were before."""
PLANNERS: Mapping[str, Any] = {"RecDataset": recdataset, "Verbalization": verbalization, "TeacherRun": teacherrun}
ROLES = {"RecDataset": "dataset", "Verbalization": "signals", "TeacherRun": "trajectories"}
COLUMNS = ["user_id", "item_id", "timestamp"]
SHOWN = 6
"""Neighbours that the demo shows to its model."""
CURVE = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.125), (0.25, 0.25), (0.25, 0.375))
"""Settings (tasks.testRenewal, neighbours.tolerance) of the curve."""


@dataclass(frozen=True)
class Made:
    """What a run made, and the calls it took by role."""

    artifacts: Mapping[str, ArtifactRef]
    calls: Mapping[str, int]
    reused: bool
    """Whether all of it was there already."""


@dataclass(frozen=True)
class Runs:
    """A pipeline's first three stages, over one version of the source or another."""

    jobs: JobRunner
    llm: FakeLLM
    manifests: Mapping[str, Any]
    namespace: str

    def run(self, name: str, source: str, previous: Mapping[str, ArtifactRef]) -> Made:
        """Run the stages as resources of a name, going on from an earlier run's artifacts where some are given."""
        made: dict[str, ArtifactRef] = {}
        calls: dict[str, int] = {}
        reused = True
        for kind, role in ROLES.items():
            before = len(self.llm.requests)
            continued = {"previous": previous[role]} if role in previous and role != "dataset" else {}
            if role == "signals" and "neighbours" in previous:
                continued["previous_neighbours"] = previous["neighbours"]
            done, again = self._stage(kind, name, source, made | continued)
            made |= {role: done[PLANNERS[kind].STEPS[-1]]}
            made |= {"neighbours": done["neighbours"]} if "neighbours" in done else {}
            calls[role], reused = len(self.llm.requests) - before, reused and again
            sys.stderr.write(f"{name}: {kind} is done, {calls[role]} calls\n")
        return Made(made, calls, reused)

    def _stage(
        self, kind: str, name: str, source: str, artifacts: Mapping[str, ArtifactRef]
    ) -> tuple[dict[str, ArtifactRef], bool]:
        """Run a resource's steps; return their artifacts, and whether all were there already."""
        resource, builder = parse(self.manifests[kind]), PLANNERS[kind]
        owner = Owner(kind, self.namespace, name, f"uid-{name}")
        inputs = Inputs(dict(artifacts), {"llm": ModelSource(artifact=CHECKPOINT)})
        done: dict[str, ArtifactRef] = {}
        reused = True
        for step_name in builder.STEPS:
            step = builder.plan(step_name, resource, inputs, done, settings())
            spec = self._here(job_spec(owner, step, 1, settings(), resource.spec), source)
            for index in range(step.shards):
                ended = self.jobs.run_spec(spec, index)
                if ended.result.error is not None:
                    raise SystemExit(f"{kind}, step {step_name}: {ended.result.error.message}")
                reused = reused and ended.result.reused
            if step.has_artifact:
                done[step_name] = ended.artifact
        return done, reused

    def _here(self, spec: JobSpec, source: str) -> JobSpec:
        """Return the spec with the store, the source and the model server of this machine."""
        stage: Any = spec.stage
        if isinstance(stage, PrepareDataset):
            stage = stage.model_copy(update={"source": source})
        if isinstance(stage, VerbalizeSignals | GenerateTrajectories):
            endpoint: LLMEndpoint = self.llm.endpoint(concurrency=stage.llm.concurrency, timeout_seconds=120)
            stage = stage.model_copy(update={"llm": endpoint})
        return spec.model_copy(update={"store": self.jobs.server.store(), "progress": None, "stage": stage})


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


def renamed(new: pl.DataFrame) -> pl.DataFrame:
    """Return a source's interactions with a snapshot's columns."""
    user, item, _, time = new.columns
    return new.select(
        pl.col(user).alias("user_id"), pl.col(item).alias("item_id"), pl.col(time).cast(pl.Int64).alias("timestamp")
    )


def edges(neighbours: Neighbours) -> pl.DataFrame:
    """Return the edges of the graph as (user_id, item_id); none where they were not kept."""
    found = neighbours.edges()
    if found is None:
        return pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    users, items = neighbours.ids(SignalKind.USER_CF), neighbours.ids(SignalKind.ITEM_CF)
    return pl.DataFrame({"user_id": users[found["user"]], "item_id": items[found["item"]]})


def signals(store: SignalStore, neighbours: Neighbours) -> Iterator[Signal]:
    """Yield all signals of a store."""
    for kind in SignalKind:
        yield from (found for key in neighbours.ids(kind) if (found := store.get(kind, key)) is not None)


def tasks_kept(before: Dataset, now: Dataset, split: Any) -> float:
    """Return which share of a split's tasks were there before, to the byte."""
    known = {task.model_dump_json() for task in before.tasks(split)}
    return round(fmean(task.model_dump_json() in known for task in now.tasks(split)), 4)


def measure(size: Size, patches: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the two weeks, and the second once more, and compare them."""
    manifests = {manifest["kind"]: manifest for manifest in reversed(load(ROOT, size))}
    for kind, patch in patches.items():
        manifests[kind] = merge_patch(manifests[kind], {"spec": patch})
    old, new = interactions()
    with ExitStack() as stack:
        server, llm = stack.enter_context(start_s3()), stack.enter_context(fake_llm())
        stack.enter_context(environment(server.environment()))
        store = ObjectStore(server.store())
        jobs = JobRunner(server, store, server.new_uri("bench"), folder)
        sources = [
            upload(store, f"{jobs.uri}/{name}", table, folder)
            for name, table in (("week-1", old), ("week-2", pl.concat([old, new])))
        ]
        runs = Runs(jobs, llm, manifests, "weekly")
        first = runs.run("week-1", sources[0], {})
        again = runs.run("week-2", sources[1], first.artifacts)
        third = runs.run("week-3", sources[1], again.artifacts)
        anew = Runs(jobs, llm, manifests, "anew").run("week-2", sources[1], {})
        before, now = (Dataset(jobs.fetch(run.artifacts["dataset"])) for run in (first, again))
        files = [jobs.fetch(run.artifacts["trajectories"]) / TRAJECTORIES for run in (again, anew)]
        equal = files[0].read_bytes() == files[1].read_bytes()
        near = [Neighbours(jobs.fetch(run.artifacts["neighbours"])) for run in (again, anew)]
        stores = [SignalStore.open(jobs.fetch(run.artifacts["signals"])) for run in (again, anew)]
        kept, fresh = ({(one.kind, one.key): one for one in signals(s, n)} for s, n in zip(stores, near, strict=True))
    if third.artifacts != again.artifacts or not third.reused:
        raise SystemExit("a run without new data was not reused as a whole")
    if kept.keys() != fresh.keys():
        raise SystemExit("the refreshed store has other keys than the one made anew")
    full, made = sum(anew.calls.values()), sum(again.calls.values())
    users = set(new[new.columns[0]])
    found = renamed(new).join(now.interactions().select(COLUMNS), on=COLUMNS, how="semi")
    changed = [
        1 - len({*kept[key].neighbours[:SHOWN]} & {*one.neighbours[:SHOWN]}) / len(one.neighbours[:SHOWN])
        for key, one in fresh.items()
    ]
    return {
        "work_saved": round(1 - made / full, 4),
        "verbalization_saved": round(1 - again.calls["signals"] / anew.calls["signals"], 4),
        "teacher_saved": round(1 - again.calls["trajectories"] / anew.calls["trajectories"], 4),
        "calls_full": full,
        "calls_again": made,
        "unchanged_calls": sum(third.calls.values()),
        "new_interactions": len(new),
        "new_share": round(len(new) / len(old), 4),
        "users_with_new": len(users),
        "new_users": len(users - set(old[old.columns[0]])),
        "new_in_snapshot": len(found),
        "new_hidden": len(new) - len(found),
        "new_in_graph": len(found.join(edges(near[0]), on=COLUMNS[:2], how="semi")),
        "train_tasks_kept": tasks_kept(before, now, "train"),
        "test_tasks_kept": tasks_kept(before, now, "test"),
        "lists_kept": round(fmean(one.snapshot == first.artifacts["dataset"].digest for one in kept.values()), 4),
        "evidence_changed": round(fmean(changed), 4),
        "trajectories_equal": equal,
        "size": str(size),
        "test_renewal": manifests["RecDataset"]["spec"]["tasks"].get("testRenewal", 0),
        "tolerance": manifests["Verbalization"]["spec"]["neighbours"].get("tolerance", 0),
    }


def patched(renewal: float, tolerance: float) -> dict[str, Any]:
    """Return what is merged into the demo's specs."""
    return {
        "RecDataset": {"tasks": {"testRenewal": renewal}},
        "Verbalization": {"neighbours": {"tolerance": tolerance}},
    }


def of_schedule() -> tuple[float, float]:
    """Return the sample schedule's tasks.testRenewal and neighbours.tolerance."""
    pipeline = yaml.safe_load(SCHEDULE.read_text())["spec"]["pipeline"]
    tasks, neighbours = (pipeline[stage]["template"] for stage in ("dataset", "verbalization"))
    return tasks["tasks"]["testRenewal"], neighbours["neighbours"]["tolerance"]


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.DEMO, help="of the demo's manifests")
    parser.add_argument("--curve", action="store_true", help="print a line for each of several settings before")
    arguments = parser.parse_args()
    curve = [("CURVE", which) for which in CURVE] if arguments.curve else []
    for word, which in (*curve, ("RESULT", of_schedule())):
        with tempfile.TemporaryDirectory() as folder:
            result = measure(arguments.size, patched(*which), Path(folder))
        sys.stdout.write(f"{word} {json.dumps(result)}\n")


if __name__ == "__main__":
    main()
