"""GRPO stages for the tests of their adapters."""

from typing import Any

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource, TrainGRPO
from star_contracts.settings import GRPOBackend, GRPOHyperparameters, Rewards

REF = ArtifactRef(uri="s3://star/a", digest="sha256:" + "0" * 64)


def stage(devices: int = 0, nodes: int = 1, backend: GRPOBackend = GRPOBackend.VERL, **values: Any) -> TrainGRPO:
    """A stage; `values` are hyper-parameters."""
    return TrainGRPO(
        model=ModelSource(artifact=REF),
        dataset=REF,
        samples=REF,
        signals=REF,
        backend=backend,
        rewards=Rewards(),
        hyperparameters=GRPOHyperparameters(**values),
        nodes=nodes,
        devices_per_node=devices,
    )
