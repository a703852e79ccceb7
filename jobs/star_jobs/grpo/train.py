"""Stage `train-grpo`: policy optimization with the format and outcome reward (paper 3.4.3, Table 5).

verl is the engine by default; ms-swift is the second one, for small machines. Either runs as a child process, its
complete checkpoints are staged to the work area, and a pod that comes after a killed one resumes from the newest.
"""

import os
import time

from star_contracts.artifact import ArtifactKind
from star_contracts.errors import Reason
from star_contracts.job import TrainGRPO
from star_contracts.processor import this_processor
from star_contracts.settings import GRPOBackend, Precision
from star_jobs.errors import TerminalFailure
from star_jobs.grpo.context import Prepared, Trained, prepare
from star_jobs.models.folder import checkpoint_files, set_dtype
from star_jobs.models.source import inputs_of
from star_jobs.runtime import JobContext, Outcome
from star_jobs.training import precision
from star_jobs.training.cluster import this_node


def run(stage: TrainGRPO, job: JobContext) -> Outcome:
    """Optimize and write the checkpoint; on the nodes that do not lead, take part and write nothing."""
    started = time.monotonic()
    stage = precision.settle(stage, this_processor(), job.log)
    if stage.nodes > 1 and stage.devices_per_node == 0:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, "nodes: several nodes need GPUs; set devicesPerNode, or nodes to 1"
        )
    ready = prepare(stage, job, this_node(stage.nodes, job.shard_index, os.environ))
    job.log.info("rl set", rows=len(ready.prompts.rows), too_long=ready.prompts.too_long, steps=ready.steps)
    trained = _engine(ready, job)
    if trained is None:
        return Outcome(kind=None)
    # What engines note there follows from their own habits; the weights are kept as they were trained.
    set_dtype(trained.model, _dtype(stage))
    for path in checkpoint_files(trained.model):
        job.output.add_file(path, path.name)
    return Outcome(
        kind=ArtifactKind.CHECKPOINT,
        inputs=_inputs(stage),
        metrics={
            **trained.metrics,
            **precision.figures(stage.hyperparameters.precision),
            "steps": float(trained.steps),
            "instances": float(len(ready.prompts.rows)),
            "leftOut": float(ready.prompts.too_long),
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _engine(ready: Prepared, job: JobContext) -> Trained | None:
    """Run the engine that the stage names; None on a node that does not lead."""
    if ready.stage.backend is GRPOBackend.SWIFT:
        from star_jobs.grpo.swift.run import train as train_with_swift

        return train_with_swift(ready, job)
    from star_jobs.grpo.verl.run import train as train_with_verl

    return train_with_verl(ready, job)


def _dtype(stage: TrainGRPO) -> str:
    """Return the number format the checkpoint is loaded in: on a GPU the one it was trained to compute in."""
    on_cpu = stage.devices_per_node == 0
    return Precision.FP32.value if on_cpu else stage.hyperparameters.precision.value


def _inputs(stage: TrainGRPO) -> dict[str, str]:
    found = {"dataset": stage.dataset.digest, "samples": stage.samples.digest, **inputs_of(stage.model)}
    return found | ({"signals": stage.signals.digest} if stage.signals is not None else {})
