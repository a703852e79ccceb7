"""GRPOJob: policy optimization with the format and outcome reward (paper 3.4.3, Table 5)."""

from typing import ClassVar

from star_contracts.settings import DifficultySampling, GRPOBackend, GRPOHyperparameters, Rewards, Variant
from star_operator.api.common import Compute, DatasetRef, ModelRef, RunSpec, VerbalizationRef
from star_operator.api.meta import CEL, KindInfo, Resource, TrainingStatus
from star_operator.api.serving import ServerTemplate


class GRPOJobSpec(RunSpec):
    """What to optimize, on what, how."""

    model_config = CEL(
        (
            "self.compute.gpusPerNode == 0 || "
            "(self.compute.nodes * self.compute.gpusPerNode) % self.hyperparameters.tensorParallelSize == 0",
            "hyperparameters.tensorParallelSize must divide compute.nodes x compute.gpusPerNode",
        ),
        (
            "self.compute.gpusPerNode > 0 || self.hyperparameters.tensorParallelSize == 1",
            "hyperparameters.tensorParallelSize above 1 needs compute.gpusPerNode",
        ),
        (
            "self.hyperparameters.trainBatchSize % self.hyperparameters.miniBatchSize == 0",
            "hyperparameters.trainBatchSize must be a multiple of miniBatchSize",
        ),
        (
            "(self.hyperparameters.miniBatchSize * self.hyperparameters.groupSize) % "
            "(self.hyperparameters.microBatchSize * self.compute.nodes * "
            "(self.compute.gpusPerNode > 0 ? self.compute.gpusPerNode : 1)) == 0",
            "hyperparameters.miniBatchSize x groupSize must be a multiple of "
            "microBatchSize x compute.nodes x compute.gpusPerNode",
        ),
        (
            "self.sampling.mix.easy + self.sampling.mix.medium + self.sampling.mix.hard > 0",
            "sampling.mix must leave some instances: set easy, medium or hard above 0",
        ),
        (
            "self.variant != 'PlannerOnly'",
            "variant PlannerOnly ranks nothing, so there is nothing to reward; choose another variant",
        ),
        (
            "has(self.verbalization) || self.variant in ['Full', 'WithoutTools']",
            "a student of this variant has tools, which need verbalization (where tool calls are looked up); "
            "name one or change variant",
        ),
    ).config()

    model: ModelRef
    """The checkpoint to start from, usually an SFTJob's."""
    dataset: DatasetRef
    """The RecDataset whose training tasks the RL set is chosen from."""
    verbalization: VerbalizationRef | None = None
    """Where summaries and the tool calls inside rollouts are looked up. Without it the student has no tools; one of
    variant WithoutTools is shown the summaries alone."""
    variant: Variant = Variant.FULL
    """What the starting checkpoint was trained to write: the phases that the format reward asks for."""
    sampling: DifficultySampling = DifficultySampling()
    """How the RL set is chosen by difficulty."""
    server: ServerTemplate = ServerTemplate()
    """How the starting checkpoint is served for the sampling step."""
    backend: GRPOBackend = GRPOBackend.VERL
    """Which framework trains."""
    rewards: Rewards = Rewards()
    """The format and outcome reward."""
    hyperparameters: GRPOHyperparameters = GRPOHyperparameters()
    """Defaults: the paper's appendix, Table 5."""
    compute: Compute = Compute()
    """Where training runs: nodes x gpusPerNode devices, or one CPU pod."""


class GRPOJob(Resource[GRPOJobSpec, TrainingStatus]):
    """GRPO with verl or ms-swift; it produces a Checkpoint, of the job's name where that is free."""

    INFO: ClassVar[KindInfo] = KindInfo("GRPOJob", "grpojobs", "grpo")
    status: TrainingStatus = TrainingStatus()
