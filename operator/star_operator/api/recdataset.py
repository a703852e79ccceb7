"""RecDataset: source tables -> an immutable, digest-pinned snapshot of tables, tasks and ground truth."""

from typing import ClassVar

from pydantic import Field

from star_contracts.artifact import Digest, Inventory, S3Uri
from star_contracts.base import Model
from star_contracts.settings import DatasetFormat, Fraction, LeakageRules, TaskSettings
from star_operator.api.common import ONE_POD, Compute, RunSpec
from star_operator.api.meta import CEL, KindInfo, Resource, Status


class DatasetSource(Model):
    """Where the raw files are."""

    format: DatasetFormat
    """What the files look like."""
    uri: S3Uri = Field(max_length=1024)
    """Prefix of the raw files in the store, e.g. `s3://star/raw/ml-100k`."""
    digest: Digest | None = None
    """Version of the raw files, as `status.source.digest` of a RecDataset has it; refuses any other."""
    max_malformed: Fraction = 0.01
    """Share of lines that may be malformed before the source is refused."""
    max_implausible: Fraction = 0.2
    """Share of a file's lines that may be implausible for one reason (times, ratings, encoding) before the source is
    refused; 1 takes whatever is there, with a warning."""


class RecDatasetSpec(RunSpec):
    """What to prepare, from what."""

    model_config = CEL(ONE_POD).config()

    source: DatasetSource
    """Where the raw files are."""
    tasks: TaskSettings = TaskSettings()
    """Which ranking tasks are made of the interactions."""
    leakage: LeakageRules = LeakageRules()
    """What must not be seen in training."""
    compute: Compute = Compute()
    """Where the preparation runs."""


class RecDatasetStatus(Status):
    """Which raw files it was made from."""

    source: Inventory | None = None
    """The version of the raw files that was found and read."""


class RecDataset(Resource[RecDatasetSpec, RecDatasetStatus]):
    """A recommendation dataset with its ranking tasks (paper 4.1, A.1, B.1)."""

    INFO: ClassVar[KindInfo] = KindInfo("RecDataset", "recdatasets", "rds")
    status: RecDatasetStatus = RecDatasetStatus()
