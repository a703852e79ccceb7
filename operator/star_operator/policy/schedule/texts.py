"""What a tenant and the schedule's author are told, as a sentence each."""

from star_operator.core.reasons import ConditionReason
from star_operator.core.times import of_seconds
from star_operator.policy.schedule.types import Wait

_TEXTS = {
    ConditionReason.SUSPENDED: "the schedule is suspended: nothing is started, and this time is not made up for",
    ConditionReason.NOT_DUE: "starts at {until}: tenants are spread by spec.jitterSeconds",
    ConditionReason.DEADLINE_MISSED: "the run of {tick} had not started {0} s after its time "
    "(spec.startingDeadlineSeconds) and is given up; at the next time it is among the first",
    ConditionReason.PROBING: "the run of {tick} waits until it is known whether its trigger is met: {detail}",
    ConditionReason.NOTHING_NEW: "at {tick} the source had no new data: no run",
    ConditionReason.NOT_DRIFTED: "at {tick} the metric had not been under its threshold for long enough: no run",
    ConditionReason.WINDOW_CLOSED: "the run of {tick} waits for the next of spec.windows, at {until}",
    ConditionReason.STILL_RUNNING: "the run of {tick} waits for the end of {detail}",
    ConditionReason.OVERRIDES_INVALID: "{detail}",
    ConditionReason.NAME_TAKEN: "{detail}",
    ConditionReason.REFUSED: "{detail}",
    ConditionReason.INVALID_OBJECT: "{detail}",
    ConditionReason.BUDGET_TOO_SMALL: "a run needs {0} GPUs at once, and spec.gpuBudget is {1}: raise it, or make the "
    "run smaller",
    ConditionReason.IN_LINE: "the run of {tick} stands in the line for GPUs and runs; before it: {0}",
    ConditionReason.RUN_LIMIT: "the run of {tick} is the next one: {0} of {1} runs (spec.maxConcurrentRuns) have not "
    "ended",
    ConditionReason.GPU_BUDGET: "the run of {tick} is the next one and needs {0} GPUs: {1} of {2} (spec.gpuBudget) are "
    "held",
    ConditionReason.REPLACING: "the run of {tick} waits until {detail}, which it replaces, is ended",
}


def sentence(wait: Wait) -> str:
    """Return why a tenant waits, or why there is no run."""
    until = of_seconds(wait.until) if wait.until is not None else "a time that is not known"
    return _TEXTS[wait.reason].format(*wait.figures, tick=of_seconds(wait.tick), until=until, detail=wait.detail)
