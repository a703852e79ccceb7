"""The look-up before a step that holds GPUs: a small pod without any asks the store whether the step's work is done.

Only pods read the store. A trainer that finds its artifact there ends in seconds as well, but not before its GPUs were
free for it, an autoscaler has started their nodes and its image has been pulled. The look-up is the step's own job
spec (the same work, output and memo) with a stage that does nothing: what is there is found before any stage runs.
"""

from star_contracts.job import LookUp
from star_operator.api.common import CachePolicy, Compute, Resources, RunSpec
from star_operator.builders.step import Step
from star_operator.core.settings import Settings

SUFFIX = "-look-up"
RESOURCES = Resources(cpu="100m", memory="256Mi", memory_limit="1Gi")
"""What reading two small objects takes; a limit, as the quotas of some namespaces ask for one."""


def look_up_name(step: str) -> str:
    """Return the name of a step's look-up."""
    return step + SUFFIX


def looked_for(step: str) -> str | None:
    """Return the step that a look-up is for; None for a step of its own."""
    return step.removesuffix(SUFFIX) if step.endswith(SUFFIX) else None


def look_up(step: Step, run: RunSpec, settings: Settings) -> Step | None:
    """Return the look-up of a step; None where there is nothing to look for, or no GPU to save."""
    if step.compute.gpus_per_node == 0 or not step.has_artifact or run.cache_policy == CachePolicy.NEVER:
        return None
    compute = Compute(pool=_pool(step, settings), resources=RESOURCES, pod_template=step.compute.pod_template)
    return Step(look_up_name(step.name), LookUp(), "jobs", compute, inputs={}, looks_for=step)


def _pool(step: Step, settings: Settings) -> str:
    """Return a pool without GPUs, the usual one first; the step's own where all have some."""
    without = sorted(name for name, pool in settings.pools.items() if pool.image_variant == "cpu")
    usual = Compute().pool
    return usual if usual in without else next(iter(without), step.compute.pool)
