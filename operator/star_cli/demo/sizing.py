"""From a machine's speed to a chain that ends in time: which size of the demo, how long it will take, the limit.

Times are those of a reference machine (two cores of an EPYC 9004, models in bfloat16; docs/demo.md, "Measured"), cut
into what programs take to start and what a sample costs, and stretched by how much slower this machine is. They are
estimates: the limit leaves room for a machine that is half as fast as it seemed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from star_cli.demo.manifests import Manifest, Overrides, Size, load
from star_cli.demo.speed import Speed
from star_cli.local.progress import clock_text
from star_contracts.processor import FLOAT32

AIM_SECONDS = 1800.0
"""The chain is sized to take no longer."""
LIMIT_SECONDS = 3600.0
"""It is given this long, or twice the estimate where that is more."""
FITTED = (Size.DEMO, Size.THREE_QUARTERS, Size.HALF, Size.QUARTER, Size.TINY)
"""What is tried, largest first; the last is taken on every machine that is too slow for the others."""
ANSWER_SECONDS = 60
"""The gateway's default deadline: ample on the reference machine."""

REFERENCE_CORES, REFERENCE_PRODUCTS, REFERENCE_LOOPS = 2, 180.0, 13.0
START_SECONDS = 330.0
"""Starts of all servers and engines of a chain."""
ENTRY, TRAJECTORY, SEQUENCE, ANSWER, ROLLOUT = 0.9, 2.2, 1.2, 0.5, 5.0
"""Seconds for one verbalized entry, trajectory, trained sequence, answer of a student, and rollout with its update."""
DISPATCH = 0.7
"""Share of a small model's time that goes into an engine's own code rather than into matrix products."""
FLOAT32_COST = 1.4
"""How many times as long work takes in float32 where bfloat16 is to be had: vLLM's tokens a second, measured."""


@dataclass(frozen=True)
class Plan:
    """What the chain is asked for on this machine."""

    size: Size
    patience: Overrides
    """What the machine's speed changes besides."""
    seconds: float
    """How long the chain will take, about."""
    limit_seconds: float


def slowness(speed: Speed) -> tuple[float, float]:
    """How many times as long as on the reference machine starts take, and work with models; below 1 it is faster."""
    starts = REFERENCE_LOOPS / speed.loops * max(1.0, REFERENCE_CORES / speed.cores)
    work = DISPATCH * starts + (1 - DISPATCH) * REFERENCE_PRODUCTS / speed.products
    return starts, work * (FLOAT32_COST if speed.processor.choose().number_format == FLOAT32 else 1.0)


def estimate(manifests: Iterable[Manifest], speed: Speed) -> float:
    """Seconds that the chain of these manifests takes."""
    starts, work = slowness(speed)
    return START_SECONDS * starts + sum(_seconds(one["kind"], one["spec"]) for one in manifests) * work


def plan(root: Path, speed: Speed, asked: Size | None = None) -> Plan:
    """What to run on a machine of this speed: the size that was asked for, else the largest that ends in time.

    Raises:
        StarctlError: the repository has no such manifests.
    """
    times = {size: estimate(load(root, size), speed) for size in ((asked,) if asked else FITTED)}
    size = next((size for size, seconds in times.items() if seconds <= AIM_SECONDS), asked or FITTED[-1])
    _, work = slowness(speed)
    return Plan(size, _patience(work), times[size], max(LIMIT_SECONDS, 2 * times[size]))


def lines(found: Plan, speed: Speed) -> list[str]:
    """What to tell a person about it."""
    choice = speed.processor.choose()
    return [
        f"this machine: {speed.cores} cores, {speed.products:.0f} GFLOP/s in float32; models compute in "
        f"{choice.number_format} ({choice.because})",
        f"the chain: size {found.size}, about {clock_text(found.seconds)}, "
        f"given {clock_text(found.limit_seconds)} (--size and --minutes change that)",
    ]


def _patience(work: float) -> Overrides:
    """The gateway of a slow machine gives an answer the time that it takes there."""
    seconds = min(3600, ceil(ANSWER_SECONDS * work))
    slow = work > 1.5
    return {("StarDeployment", "star"): {"gateway": {"deadlineSeconds": seconds}}} if slow else {}


def _seconds(kind: str, spec: Mapping[str, Any]) -> float:
    """Seconds that a resource's samples take on the reference machine, without its programs' starts."""
    steps, settings = spec.get("hyperparameters", {}), spec.get("settings", {})
    match kind:
        case "Verbalization":
            return 2 * float(spec["limit"]) * ENTRY  # of users and of films
        case "TeacherRun":
            return float(spec["tasks"] * spec["passes"]) * TRAJECTORY
        case "SFTJob":
            return float(steps["maxSteps"] * steps["globalBatchSize"]) * SEQUENCE
        case "GRPOJob":
            answers = float(spec["sampling"]["samples"] * spec["sampling"]["tasks"])
            rollouts = float(steps["maxSteps"] * steps["trainBatchSize"] * steps["groupSize"])
            return answers * ANSWER + rollouts * ROLLOUT
        case "Evaluation":
            return float(settings["samples"]) * ANSWER
        case "StarDeployment":
            return float(spec["gates"]["settings"]["samples"]) * ANSWER
    return 0.0
