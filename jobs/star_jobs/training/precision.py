"""Which number format a training run computes in: chosen on the node, which alone knows its processor, and said."""

from typing import TypeVar

from star_contracts.job import TrainGRPO, TrainSFT
from star_contracts.processor import Choice, Processor
from star_contracts.settings import GRPOBackend, Precision
from star_jobs.runtime import Logger

S = TypeVar("S", TrainSFT, TrainGRPO)

BITS = {Precision.BF16: 16.0, Precision.FP32: 32.0}


def choose(stage: TrainSFT | TrainGRPO, processor: Processor) -> Choice:
    """Return the stage's number format, never `auto`.

    On a CPU verl rolls out in float32 (`grpo.verl.cpu_rollout`), and its trainer has to compute the same probabilities.
    """
    asked = stage.hyperparameters.precision.on(stage.devices_per_node)
    if stage.devices_per_node > 0:
        return Choice(asked.value, "this is what it is on GPUs")
    if asked is Precision.AUTO and isinstance(stage, TrainGRPO) and stage.backend is GRPOBackend.VERL:
        return Choice(Precision.FP32.value, "verl's rollout on a CPU computes in it")
    return processor.choose(asked.value)


def settle(stage: S, processor: Processor, log: Logger) -> S:
    """Return the stage with its precision chosen, and say so in the log."""
    found = choose(stage, processor)
    say = log.warning if found.slow else log.info
    h = stage.hyperparameters
    say("number format", asked=h.precision.value, computes_in=found.number_format, because=found.because)
    chosen = h.model_copy(update={"precision": Precision(found.number_format)})
    return stage.model_copy(update={"hyperparameters": chosen})


def figures(precision: Precision) -> dict[str, float]:
    """Return what a run's metrics say of it: `precisionBits`, 16 for bfloat16 and 32 for float32."""
    return {"precisionBits": BITS[precision]}
