"""The job spec: the one JSON file that tells a job pod what to do (`/etc/star/job.json`).

`stage.stage` picks the entry point. A job reads its inputs by digest, writes its output prefix (manifest last), and
answers with a `JobResult`. Secrets are never in here: credentials come from the environment or from mounted files.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from star_contracts.artifact import ArtifactRef, Digest, Producer, S3Uri
from star_contracts.base import Model, value_hash
from star_contracts.limits import RateLimits, TokenPrices
from star_contracts.progress import ProgressTarget
from star_contracts.settings import (
    Agents,
    DatasetFormat,
    DifficultySampling,
    EvaluationSettings,
    GRPOBackend,
    GRPOHyperparameters,
    LeakageRules,
    NeighbourSettings,
    Rewards,
    Sampling,
    SFTHyperparameters,
    SignalScope,
    TaskSettings,
    TaskSplit,
    TrajectoryFilter,
    Variant,
)

JOB_SPEC_PATH = "/etc/star/job.json"
REVISIONS: Mapping[str, int] = {
    "prepare-dataset": 3,  # tasks and negatives that stay when the data grows, and their ids
    "compute-neighbours": 4,  # origin.json, and since which snapshot each list stands
    "collect-trajectories": 2,  # runs.jsonl; test tasks drawn by type
    "evaluate": 2,  # an answer's seconds are its own
}
"""Stages that make something else of equal parameters than they once did; 1 for those not named. Count one up with such
a change: equal work shares it, so that no artifact of the older code is taken for one of the newer."""
READS_RAW_FILES = frozenset({"prepare-dataset"})
"""Stages that read what no digest names. Which version they found is part of their work, so that they look for equal
work themselves (`JobContext.pin`)."""


class Store(Model):
    """An S3-compatible store. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""

    endpoint: str | None = None
    """`http(s)://host[:port]`; None for AWS itself."""
    region: str = "us-east-1"
    path_style: bool = True
    """Address buckets by path rather than by host name."""


class Shard(Model):
    """Which part of the work this pod does. The index comes from JOB_COMPLETION_INDEX (Indexed Job)."""

    count: int = Field(default=1, ge=1)


class LLMEndpoint(Model):
    """An OpenAI-compatible endpoint, in the cluster or outside."""

    base_url: str
    """URL up to and including `/v1`."""
    model: str
    api_key_file: str | None = None
    """Mounted file with the key; None for a server that wants none."""
    timeout_seconds: float = Field(default=600, gt=0)
    """For one call."""
    concurrency: int = Field(default=64, ge=1)
    """Calls in flight from one pod."""
    startup_seconds: float = Field(default=1800, gt=0)
    """How long to wait for the endpoint's first answer."""
    rate_limits: RateLimits | None = None
    """Of the endpoint as a whole: all pods of the step share them."""
    prices: TokenPrices | None = None
    """For the account of what was spent."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs of one engine behind it: what an answer occupies while it is made. None for an endpoint outside."""
    ask_port: int | None = None
    """Where to listen from the moment the model is needed: the operator starts its server only then. None for an
    endpoint that answers without being asked for."""


class ModelSource(Model):
    """Weights to start from: exactly one of an artifact or a hub id."""

    artifact: ArtifactRef | None = None
    hub: str | None = None
    """`org/name[@revision]` on a Hugging Face compatible hub."""


class PrepareDataset(Model):
    """RecDataset, step `prepare`: source tables -> tables, tasks and ground truth."""

    stage: Literal["prepare-dataset"] = "prepare-dataset"
    format: DatasetFormat
    source: S3Uri
    """Prefix of the source files."""
    source_digest: Digest | None = None
    """Refuses another version of them."""
    tasks: TaskSettings
    leakage: LeakageRules
    max_malformed: float = 0.01
    """Share of lines that may be malformed before the source is refused."""
    max_implausible: float = 0.2
    """Share of a file's lines that may be implausible for one reason before the source is refused."""


class ComputeNeighbours(Model):
    """Verbalization, step `neighbours`: interactions -> weighted neighbours."""

    stage: Literal["compute-neighbours"] = "compute-neighbours"
    dataset: ArtifactRef
    neighbours: NeighbourSettings
    previous: ArtifactRef | None = None
    """The neighbours of an earlier run, whose lists are kept within `neighbours.tolerance`; None without tolerance. It
    decides what is made, so its digest is among the step's inputs."""


class VerbalizeSignals(Model):
    """Verbalization, step `verbalize` (sharded): neighbours -> words, as part files under the work prefix."""

    stage: Literal["verbalize-signals"] = "verbalize-signals"
    dataset: ArtifactRef
    neighbours: ArtifactRef
    llm: LLMEndpoint
    sampling: Sampling
    scope: SignalScope
    summaries: bool = True
    """Whether the beginnings of long histories are summarized as well."""
    limit: int | None = None
    """Users and items each at most; for trying things out."""
    previous: ArtifactRef | None = None
    """A look-up store whose entries are taken over where what they were made from is unchanged."""


class CollectSignals(Model):
    """Verbalization, step `collect`: part files -> the look-up store."""

    stage: Literal["collect-signals"] = "collect-signals"
    dataset: ArtifactRef
    neighbours: ArtifactRef
    scope: SignalScope
    summaries: bool = True
    limit: int | None = None
    previous: ArtifactRef | None = None
    """The store that the verbalizers took entries over from; here they are only counted."""


class GenerateTrajectories(Model):
    """TeacherRun, step `generate` (sharded): MARS over tasks x passes, as part files under the work prefix."""

    stage: Literal["generate-trajectories"] = "generate-trajectories"
    dataset: ArtifactRef
    signals: ArtifactRef | None = None
    """The look-up store, of signals for the agents' tools and of summaries."""
    llm: LLMEndpoint
    agent_llms: dict[str, LLMEndpoint] = {}
    """Endpoints of single agents, by agent name (the paper's MARS-Planner hybrid)."""
    token_budget: int | None = None
    """Tokens of prompts and answers that all pods of the step together may spend; no limit by default."""
    agents: Agents
    passes: int = Field(ge=1)
    sampling: Sampling
    split: TaskSplit = TaskSplit.TRAIN
    tasks: int | None = None
    """Tasks at most; of the test tasks equally many of each type."""
    filter: TrajectoryFilter
    previous: ArtifactRef | None = None
    """Trajectories of an earlier run, whose answers are taken over where the same would be asked."""


class CollectTrajectories(Model):
    """TeacherRun, step `collect`: part files -> `trajectories.jsonl` and statistics."""

    stage: Literal["collect-trajectories"] = "collect-trajectories"
    dataset: ArtifactRef
    passes: int = Field(ge=1)
    split: TaskSplit = TaskSplit.TRAIN
    tasks: int | None = None
    filter: TrajectoryFilter


class TrainSFT(Model):
    """SFTJob, step `train`: ms-swift full-parameter fine-tuning on the kept trajectories."""

    stage: Literal["train-sft"] = "train-sft"
    model: ModelSource
    trajectories: ArtifactRef
    dataset: ArtifactRef
    """The dataset the trajectories were made on: tasks and titles for the prompts."""
    signals: ArtifactRef | None = None
    """The look-up store the trajectories were made with: summaries for the prompts."""
    variant: Variant
    samples: int | None = None
    """Kept trajectories at most, in the artifact's order; all by default."""
    hyperparameters: SFTHyperparameters
    nodes: int = Field(default=1, ge=1)
    devices_per_node: int = Field(default=0, ge=0)
    """GPUs a node; 0 trains on the CPU."""


class SampleDifficulty(Model):
    """GRPOJob, step `sample`: rollouts from the starting checkpoint -> the RL set (paper A.1)."""

    stage: Literal["sample-difficulty"] = "sample-difficulty"
    dataset: ArtifactRef
    signals: ArtifactRef | None = None
    llm: LLMEndpoint
    variant: Variant = Variant.FULL
    """As in TrainGRPO."""
    sampling: DifficultySampling
    temperature: float
    max_tokens: int


class TrainGRPO(Model):
    """GRPOJob, step `train`: verl or ms-swift on the RL set."""

    stage: Literal["train-grpo"] = "train-grpo"
    model: ModelSource
    dataset: ArtifactRef
    samples: ArtifactRef
    signals: ArtifactRef | None = None
    variant: Variant = Variant.FULL
    """Which phases the student was trained to write; without signals always WithoutTools. WithoutTools takes none but
    summaries of the signals."""
    backend: GRPOBackend
    rewards: Rewards
    hyperparameters: GRPOHyperparameters
    nodes: int = Field(default=1, ge=1)
    devices_per_node: int = Field(default=0, ge=0)


class Compared(Model):
    """What an evaluation's model is compared with in pairs, on the same tasks."""

    artifact: ArtifactRef
    """Another evaluation's report or a teacher's trajectories; which of the two it is stands in its manifest."""
    name: str | None = None
    """What people call it: the other Evaluation's or the TeacherRun's name."""


class Evaluate(Model):
    """Evaluation, step `evaluate`: test tasks -> HR@1/3/5 with intervals, beside the baselines."""

    stage: Literal["evaluate"] = "evaluate"
    dataset: ArtifactRef
    signals: ArtifactRef | None = None
    llm: LLMEndpoint | None = None
    """None measures the baselines alone."""
    compared: dict[str, Compared] = {}
    """By path in the spec: `against`, whose figures are metrics as well, and `beside[0]`, ... of the report alone."""
    settings: EvaluationSettings


class LookUp(Model):
    """Nothing but the look whether the work of the job spec is done already: without its GPUs, before they are held."""

    stage: Literal["look-up"] = "look-up"


class ImportModel(Model):
    """A GGUF file -> a checkpoint artifact in Hugging Face layout (how weights shipped in a package get in)."""

    stage: Literal["import-model"] = "import-model"
    source: S3Uri
    """The `.gguf` object."""


Stage = Annotated[
    PrepareDataset
    | ComputeNeighbours
    | VerbalizeSignals
    | CollectSignals
    | GenerateTrajectories
    | CollectTrajectories
    | TrainSFT
    | SampleDifficulty
    | TrainGRPO
    | Evaluate
    | ImportModel
    | LookUp,
    Field(discriminator="stage"),
]


class Whole(Model):
    """The artifact that is collected from a sharded step's part files, in case it is there already."""

    memo: S3Uri
    """Object that remembers it."""
    work_hash: Digest
    """Of the collecting step."""
    step: str = ""
    """The collecting step."""
    inputs: dict[str, Digest] = {}
    """What it collects was made from, by role."""


class JobSpec(Model):
    """Everything a job pod is told."""

    format_version: Literal[1] = 1
    store: Store
    producer: Producer
    """Goes into the manifest as it is, with the image filled in by the operator."""
    output: S3Uri
    """Prefix of the artifact to write."""
    work: S3Uri
    """Prefix for resumable state: part files, training checkpoints."""
    memo: S3Uri | None = None
    """Object that remembers the artifact of this work; None never looks and never writes (cachePolicy Never)."""
    whole: Whole | None = None
    """Of a step that leaves part files: what is collected from them. Where that is there already, nothing is made."""
    inputs: dict[str, Digest] = {}
    """Digests of what the work is made from, by role, as the operator resolved them. They go into the manifest, so that
    a step that only collects others' parts still names the model and the signals behind them."""
    shard: Shard = Shard()
    progress: ProgressTarget | None = None
    stage: Stage


def pinned(spec: JobSpec, source: str) -> JobSpec:
    """Return the spec of the same work on one version of its raw files, `source` being its digest.

    Work hash, output, work area and memo all change with it: artifacts are never overwritten, and other files of the
    same names are other work.
    """
    work_hash = value_hash({"work": spec.producer.work_hash, "source": source})
    end = f"-{source.removeprefix('sha256:')[:16]}"
    return spec.model_copy(
        update={
            "producer": spec.producer.model_copy(update={"work_hash": work_hash}),
            "output": spec.output + end,
            "work": spec.work + end,
            "memo": None if spec.memo is None else f"{spec.memo.removesuffix('.json')}{end}.json",
            "inputs": {**spec.inputs, "source": source},
        }
    )
