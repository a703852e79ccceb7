"""SFTJob: supervised fine-tuning on the teacher's kept trajectories (paper 3.4.2, Table 4)."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import SFTHyperparameters, Variant
from star_operator.api.common import Compute, ModelRef, RunSpec, TeacherRunRef
from star_operator.api.meta import CEL, KindInfo, Resource, TrainingStatus


class SFTJobSpec(RunSpec):
    """What to train, on what, how."""

    model_config = CEL(
        (
            "self.compute.gpusPerNode > 0 || self.hyperparameters.sharding == 'None'",
            "hyperparameters.sharding (DeepSpeed) needs GPUs: set compute.gpusPerNode, or sharding to None",
        ),
        (
            "self.hyperparameters.globalBatchSize % (self.hyperparameters.microBatchSize * self.compute.nodes * "
            "(self.compute.gpusPerNode > 0 ? self.compute.gpusPerNode : 1)) == 0",
            "hyperparameters.globalBatchSize must be a multiple of "
            "microBatchSize x compute.nodes x compute.gpusPerNode",
        ),
    ).config()

    model: ModelRef
    """The base model."""
    trajectories: TeacherRunRef
    """The TeacherRun whose kept trajectories are trained on."""
    variant: Variant = Variant.FULL
    """What the trajectories are serialized into."""
    samples: int | None = Field(default=None, ge=1, le=100_000_000)
    """Kept trajectories used at most, the first passes first and in balance over the task types; all by default."""
    hyperparameters: SFTHyperparameters = SFTHyperparameters()
    """Defaults: the paper's appendix, Table 4."""
    compute: Compute = Compute()
    """Where training runs: nodes x gpusPerNode devices, or one CPU pod."""


class SFTJob(Resource[SFTJobSpec, TrainingStatus]):
    """Full-parameter fine-tuning with ms-swift; it produces a Checkpoint, of the job's name where that is free."""

    INFO: ClassVar[KindInfo] = KindInfo("SFTJob", "sftjobs", "sft")
    status: TrainingStatus = TrainingStatus()
