"""Run verl: write its inputs, start it (alone, or on a Ray cluster of the pods), follow it, find its model."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from star_contracts.errors import Reason
from star_contracts.settings import MAX_TOOL_CALLS
from star_jobs.errors import RetryableFailure
from star_jobs.grpo.context import Prepared, Trained
from star_jobs.grpo.rows import as_messages
from star_jobs.grpo.verl import ray_cluster
from star_jobs.grpo.verl.layout import ENGINE, HUGGING_FACE, VerlLayout, VerlStep, parse_step
from star_jobs.grpo.verl.overrides import AGENT, Plan, overrides
from star_jobs.models import chat_template
from star_jobs.models.weights import is_whole_safetensors
from star_jobs.runtime import JobContext, work_dir
from star_jobs.training import process
from star_jobs.training.failure import classify
from star_jobs.training.logs import JsonLinesFollower
from star_jobs.training.staging import FOLDER, CheckpointStager

_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "NPROC_PER_NODE", "RANK", "WORLD_SIZE")
"""What the pods of a group are told for torchrun: it would confuse the process groups that verl sets up itself."""
STAGING_SECONDS = 1800.0
"""How long the leading pod waits for the others to stage their parts of the last checkpoint."""


def train(ready: Prepared, job: JobContext) -> Trained | None:
    """Train to the last step, resuming where an earlier pod was killed; None on a node that does not lead."""
    with run_folder(job) as run:
        model = _train(ready, job, run)
        if model is None:
            return None
        # The folder goes with the run; the model is wanted a moment longer.
        return replace(model, model=Path(shutil.move(model.model, job.scratch / "model")))


@contextmanager
def run_folder(job: JobContext) -> Iterator[Path]:
    """Give a folder of the same path in every pod of the group: verl's workers are told of it by name."""
    name = hashlib.sha256(job.spec.output.encode()).hexdigest()[:16]
    folder = work_dir() / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(ready: Prepared, job: JobContext, run: Path) -> Trained | None:
    folder = run / "checkpoints"
    folder.mkdir()
    layout = VerlLayout(ready.steps, ready.node.nodes)
    stager = CheckpointStager(job.work, folder, layout, node=ready.node.rank, nodes=ready.node.nodes)
    resumed = stager.restore()
    watcher = Watcher(ready, job, run / "metrics.jsonl")
    plan = write_inputs(ready, run / "inputs", folder)
    if resumed is None or resumed.step < ready.steps:
        watcher.begin(resumed.step if resumed else 0)
        with stager.staging():
            _run_engine(ready, job, plan, watcher)
    if not ready.node.leads:
        return None
    return Trained(_final_model(ready, job, folder), ready.steps, dict(watcher.values))


def write_inputs(ready: Prepared, folder: Path, checkpoints: Path) -> Plan:
    """Write the parquet file of the rows and the agent loop's registration; return the plan they are part of."""
    folder.mkdir(parents=True)
    arguments = chat_template.ARGUMENTS if ready.answer_prefix else {}
    return Plan(
        model=ready.model.path,
        prompts=write_parquet(ready, folder / "prompts.parquet"),
        agent_loop=write_agent_loop(ready, folder / "agent_loop.yaml"),
        reward=Path(__file__).with_name("reward.py"),
        checkpoints=checkpoints,
        batch=ready.batch,
        mini_batch=ready.mini_batch,
        steps=ready.steps,
        epochs=ready.epochs,
        template_arguments=arguments,
        ray_address="auto" if ready.node.nodes > 1 else None,
    )


def write_parquet(ready: Prepared, path: Path) -> Path:
    """Write the rows as verl's dataset reads them (verl, "Prepare Data for Post-Training")."""
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "data_source": ready.variant.value,
            "prompt": as_messages(row),
            "ability": "recommendation",
            "reward_model": {"style": "rule", "ground_truth": row.truth},
            "extra_info": {"index": index, "task_id": row.task_id, "tool_chars": row.tool_chars},
        }
        for index, row in enumerate(ready.prompts.rows)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_agent_loop(ready: Prepared, path: Path) -> Path:
    """Write the file that registers our agent loop under its name. JSON is YAML."""
    loop = {
        "name": AGENT,
        "_target_": "star_jobs.grpo.verl.agent_loop.StudentLoop",
        "signals": str(ready.signals) if ready.signals else None,
        "items": str(ready.items),
        "max_tool_calls": MAX_TOOL_CALLS,
    }
    path.write_text(json.dumps([loop], indent=2))
    return path


def environment(ready: Prepared, base: Mapping[str, str], metrics: Path) -> dict[str, str]:
    """Return verl's environment: no network, no dashboards, our module on machines without a GPU."""
    extra = {
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HYDRA_FULL_ERROR": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_prestart_worker_first_driver": "0",
        "VERL_FILE_LOGGER_PATH": str(metrics),
        "WANDB_MODE": "offline",
    }
    if ready.stage.devices_per_node == 0:
        extra |= {
            "VERL_PLATFORM": "cpu",
            "VERL_USE_EXTERNAL_MODULES": "star_jobs.grpo.verl.cpu_platform",
            **process.cpu_threads(base),
        }
    # Ray counts the logical GPU of a CPU run and refuses one that is hidden.
    unwanted = {*_TORCHRUN, "CUDA_VISIBLE_DEVICES"} if ready.stage.devices_per_node == 0 else {*_TORCHRUN}
    kept = {name: value for name, value in base.items() if name not in unwanted}
    return process.engine_environment(kept, extra)


class Watcher:
    """Turns verl's metrics file into progress, and remembers the newest figures."""

    def __init__(self, ready: Prepared, job: JobContext, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = {}
        self._ready = ready
        self._job = job
        self._log = JsonLinesFollower(path)

    def begin(self, step: int) -> None:
        """Report where the run starts."""
        if self._ready.node.leads:
            self._job.progress(step, self._ready.steps, "steps")

    def tick(self) -> None:
        """Report what is new."""
        for line in self._log.read():
            step = parse_step(line)
            if step is not None:
                self._report(step)

    def _report(self, step: VerlStep) -> None:
        self.values = {name: round(value, 6) for name, value in step.values.items()}
        live = {name: self.values[name] for name in ("reward", "loss") if name in self.values}
        self._job.progress(step.step, self._ready.steps, "steps", **live)


def _run_engine(ready: Prepared, job: JobContext, plan: Plan, watcher: Watcher) -> None:
    env = environment(ready, os.environ, watcher.path)
    if not ready.node.leads:
        ray_cluster.follow(ready, job, env)
        return
    if ready.node.nodes > 1:
        ray_cluster.lead(ready, job, env)
    argv = (sys.executable, "-m", "verl.trainer.main_ppo", *overrides(ready.stage, plan), "hydra.run.dir=.")
    ended = process.run(process.Command(argv, env, watcher.path.parent / "engine"), job.stopping, watcher.tick)
    watcher.tick()
    if ended.returncode != 0:
        raise classify(ENGINE, ended)
    if ready.node.nodes > 1:
        ray_cluster.dismiss(job)


def _final_model(ready: Prepared, job: JobContext, folder: Path) -> Path:
    """Return the folder of the last step's model; across nodes another pod may have written it."""
    name = f"global_step_{ready.steps}"
    if ready.node.nodes > 1:
        _await_parts(ready, job, name)
        for node in range(ready.node.nodes):
            job.work.download_tree(f"{FOLDER}/{name}/node-{node}", folder / name)
    model = folder / name / HUGGING_FACE
    weights = list(model.glob("*.safetensors"))
    if not weights or not all(is_whole_safetensors(file) for file in weights):
        raise RetryableFailure(
            Reason.TRAINER_FAILED, f"{ENGINE} ended without an error and without a whole model of step {ready.steps}"
        )
    return model


def _await_parts(ready: Prepared, job: JobContext, name: str) -> None:
    deadline = time.monotonic() + STAGING_SECONDS
    wanted = {f"{FOLDER}/{name}/node-{node}" for node in range(ready.node.nodes)}
    while not wanted <= set(job.work.trees(FOLDER)):
        job.raise_if_stopping()
        if time.monotonic() > deadline:
            raise RetryableFailure(
                Reason.TRAINER_FAILED, f"the nodes did not stage their parts of {name} in {STAGING_SECONDS:.0f} s"
            )
        job.stopping.wait(5.0)
