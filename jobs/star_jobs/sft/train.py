"""Stage `train-sft`: ms-swift full-parameter fine-tuning (paper 3.4.2, Table 4).

The engine runs as a child process. Its log becomes progress and metrics, its complete checkpoints are staged to the
work area, and a pod that comes after a killed one resumes from the newest. The final model alone is the artifact.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from star_contracts.artifact import ArtifactKind
from star_contracts.data import Trajectory
from star_contracts.errors import Reason
from star_contracts.job import TrainSFT
from star_contracts.processor import this_processor
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import RetryableFailure
from star_jobs.lookup import SignalStore
from star_jobs.models.folder import ModelFolder, checkpoint_files
from star_jobs.models.source import inputs_of, resolve
from star_jobs.models.tokens import token_counter
from star_jobs.runtime import JobContext, Outcome
from star_jobs.sft.arguments import arguments, planned_steps
from star_jobs.sft.data import Limits, TrainingSet, build
from star_jobs.storage import read_jsonl
from star_jobs.training import precision, process, swift
from star_jobs.training.cluster import Node, this_node
from star_jobs.training.failure import classify
from star_jobs.training.logs import JsonLinesFollower
from star_jobs.training.rows import write_rows
from star_jobs.training.staging import CheckpointStager, LocalCheckpoint
from star_jobs.trajectory.prompt import shown

TRAJECTORIES = "trajectories.jsonl"


@dataclass
class _Run:
    """What the parts of one run share."""

    stage: TrainSFT
    job: JobContext
    node: Node
    model: ModelFolder
    output: Path
    sequences: int
    figures: dict[str, float] = field(default_factory=dict)
    """The newest of each figure of the log."""

    def watch(self, log: JsonLinesFollower) -> None:
        """Turn new log lines into progress. Raises Diverged."""
        for line in log.read():
            step = swift.parse_step(line)
            if step is not None:
                self.figures |= step.values
                if self.node.leads:
                    live = {name: step.values[name] for name in ("loss", "learning_rate") if name in step.values}
                    self.job.progress(step.step, step.total, "steps", **live)


def run(stage: TrainSFT, job: JobContext) -> Outcome:
    """Train and write the checkpoint; on the nodes that do not lead, take part and write nothing."""
    started = time.monotonic()
    stage = precision.settle(stage, this_processor(), job.log)
    node = this_node(stage.nodes, job.shard_index, os.environ)
    model = resolve(stage.model, job)
    data = training_set(stage, job, model)
    job.log.info("training set", rows=len(data.rows), too_long=data.too_long, longest=data.longest)
    this = _Run(stage, job, node, model, job.scratch / "output", len(data.rows))
    layout = swift.SwiftLayout(stage.devices_per_node)
    train(this, layout, write_rows(job.scratch / "data" / "train.jsonl", data.rows))
    if not node.leads:
        return Outcome(kind=None)
    final = final_checkpoint(this.output, layout)
    for path in checkpoint_files(final.path):
        job.output.add_file(path, path.name)
    return Outcome(
        kind=ArtifactKind.CHECKPOINT,
        inputs=_inputs(stage),
        metrics={
            **metrics(this.figures, final.step, data, time.monotonic() - started),
            **precision.figures(stage.hyperparameters.precision),
        },
    )


def _inputs(stage: TrainSFT) -> dict[str, str]:
    found = {"trajectories": stage.trajectories.digest, "dataset": stage.dataset.digest, **inputs_of(stage.model)}
    return found | ({"signals": stage.signals.digest} if stage.signals is not None else {})


def training_set(stage: TrainSFT, job: JobContext, model: ModelFolder) -> TrainingSet:
    """Fetch the inputs and serialize them for the variant."""
    dataset = Dataset(job.fetch(stage.dataset, only=("*.jsonl",)))
    trajectories = read_jsonl(job.fetch(stage.trajectories) / TRAJECTORIES, Trajectory)
    limits = Limits(
        max_length=stage.hyperparameters.max_length,
        count=token_counter(model.path, model.name),
        answer_prefix=model.answer_prefix(),
        samples=stage.samples,
    )
    store = SignalStore.open(job.fetch(stage.signals)) if stage.signals is not None else None
    tasks = {task.task_id: shown(task, store) for task in dataset.tasks("train")}
    return build(trajectories, tasks, dataset.items, stage.variant, limits)


def train(this: _Run, layout: swift.SwiftLayout, rows: Path) -> None:
    """Run the engine to its end, resuming where an earlier pod was killed."""
    stager = CheckpointStager(this.job.work, this.output, layout, node=this.node.rank, nodes=this.node.nodes)
    resumed = stager.restore()
    if resumed is not None and layout.is_last(resumed):
        return
    this.job.progress(resumed.step if resumed else 0, planned_steps(this.stage, this.sequences), "steps")
    found = arguments(this.stage, this.model, rows, this.output, resumed.path if resumed else None)
    env = swift.environment(os.environ, this.node, this.stage.devices_per_node, offline=True)
    log = JsonLinesFollower(this.output / swift.LOG_FILE)
    with stager.staging():
        engine = swift.command("sft", found, this.job.scratch, env)
        ended = process.run(engine, this.job.stopping, lambda: this.watch(log))
        this.watch(log)
    if ended.returncode != 0:
        raise classify(swift.ENGINE, ended)


def final_checkpoint(output: Path, layout: swift.SwiftLayout) -> LocalCheckpoint:
    """Return the last checkpoint, which must be whole."""
    found = layout.find(output)
    if not found or not layout.is_saved(found[-1]):
        raise RetryableFailure(
            Reason.TRAINER_FAILED,
            f"{swift.ENGINE} ended without an error and without a whole checkpoint",
        )
    return found[-1]


def metrics(last: Mapping[str, float], steps: int, data: TrainingSet, seconds: float) -> dict[str, float]:
    """Return the headline figures of a run; `loss` is the last step's."""
    found = {"steps": float(steps), "sequences": float(len(data.rows)), "leftOut": float(data.too_long)}
    if "loss" in last:
        found["loss"] = round(last["loss"], 4)
    return found | {"seconds": round(seconds, 1)}
