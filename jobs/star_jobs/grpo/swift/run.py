"""Run `swift rlhf`: write its inputs, start it, follow it, find its model."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from star_contracts.errors import Reason
from star_contracts.settings import MAX_TOOL_CALLS
from star_jobs.errors import RetryableFailure
from star_jobs.grpo.context import Prepared, Trained
from star_jobs.grpo.rows import as_messages
from star_jobs.grpo.swift import settings
from star_jobs.grpo.swift.arguments import Plan, arguments
from star_jobs.runtime import JobContext
from star_jobs.training import process, swift
from star_jobs.training.failure import classify
from star_jobs.training.logs import JsonLinesFollower
from star_jobs.training.rows import write_rows
from star_jobs.training.staging import CheckpointStager

PLUGIN = Path(__file__).parent / "plugin" / "star_student.py"

_METRICS = {
    "reward": "reward",
    "loss": "loss",
    "kl": "kl",
    "responseTokens": "completions/mean_length",
    "turns": "num_turns",
}


def train(ready: Prepared, job: JobContext) -> Trained | None:
    """Train to the last step, resuming where an earlier pod was killed; None on a node that does not lead."""
    layout = swift.SwiftLayout(ready.stage.devices_per_node)
    plan = make_plan(ready, job.scratch)
    stager = CheckpointStager(job.work, plan.output, layout, node=ready.node.rank, nodes=ready.node.nodes)
    resumed = stager.restore()
    watcher = Watcher(ready, plan, job)
    if resumed is None or not layout.is_last(resumed):
        watcher.begin(resumed.step if resumed else 0)
        with stager.staging():
            _run_engine(ready, replace(plan, resume=resumed.path if resumed else None), job, watcher)
    if not ready.node.leads:
        return None
    found = layout.find(plan.output)
    if not found or not layout.is_saved(found[-1]):
        raise RetryableFailure(
            Reason.TRAINER_FAILED, f"{swift.ENGINE} ended without an error and without a whole checkpoint"
        )
    return Trained(found[-1].path, ready.steps, dict(watcher.values))


def make_plan(ready: Prepared, scratch: Path) -> Plan:
    """Write the rows; return the plan they are part of."""
    rows = [
        {"messages": as_messages(row), "truth": row.truth, "task_id": row.task_id, "tool_chars": row.tool_chars}
        for row in ready.prompts.rows
    ]
    return Plan(
        model=ready.model,
        answer_prefix=ready.answer_prefix,
        prompts=write_rows(scratch / "inputs" / "prompts.jsonl", rows),
        plugin=PLUGIN,
        output=scratch / "output",
        batch=ready.batch,
        mini_batch=ready.mini_batch,
        steps=ready.steps,
        max_tool_calls=MAX_TOOL_CALLS if ready.signals else 0,
    )


class Watcher:
    """Turns ms-swift's log into progress in our steps, and remembers the newest figures."""

    def __init__(self, ready: Prepared, plan: Plan, job: JobContext) -> None:
        self.values: dict[str, float] = {}
        self._ready = ready
        self._per_step = plan.updates_per_step
        self._job = job
        self._log = JsonLinesFollower(plan.output / swift.LOG_FILE)

    def begin(self, update: int) -> None:
        """Report where the run starts."""
        if self._ready.node.leads:
            self._job.progress(update // self._per_step, self._ready.steps, "steps")

    def tick(self) -> None:
        """Report what is new."""
        for line in self._log.read():
            step = swift.parse_step(line)
            if step is not None:
                self.values |= figures(step.values)
                if self._ready.node.leads:
                    live = {name: self.values[name] for name in ("reward", "loss") if name in self.values}
                    self._job.progress(step.step // self._per_step, self._ready.steps, "steps", **live)


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of one log line under our names."""
    return {name: round(float(values[key]), 6) for name, key in _METRICS.items() if key in values}


def _run_engine(ready: Prepared, plan: Plan, job: JobContext, watcher: Watcher) -> None:
    env = swift.environment(os.environ, ready.node, ready.stage.devices_per_node, offline=True)
    env |= settings.to_environment(ready.stage.rewards, ready.variant, ready.items, ready.signals)
    engine = swift.command("rlhf", arguments(ready.stage, plan), job.scratch, env)
    ended = process.run(engine, job.stopping, watcher.tick)
    watcher.tick()
    if ended.returncode != 0:
        raise classify(swift.ENGINE, ended)
