"""Blocks that several kinds share: references, compute, models and LLMs."""

from typing import Annotated

from pydantic import Field, StringConstraints

from star_contracts.artifact import S3_SEGMENT, Digest, S3Uri
from star_contracts.base import Later, Model
from star_contracts.limits import RateLimits, TokenPrices
from star_contracts.settings import MAX_TOKENS
from star_operator.api.meta import CEL
from star_operator.api.references import refers_to
from star_operator.core.podmeta import NODE_KEYS_PATTERN, OWN_KEYS_PATTERN, Annotations, Labels
from star_operator.core.quantity import Quantity

MAX_SECONDS = 10 * 365 * 86400
"""More than any run lasts, or is kept after its end."""
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_HUB_PART = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
"""As the hub has it (huggingface_hub, REPO_ID_REGEX): none is an option of a program (`-x`) or a folder (`..`)."""
MODEL_URI_PATTERN = (
    rf"^(hf://{_HUB_PART}/{_HUB_PART}(@{_HUB_PART})?"
    rf"|s3://[a-z0-9][a-z0-9.-]+({S3_SEGMENT})+)$"
)
HTTP_URL_PATTERN = (
    r"^https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?$"
)
"""Hosts of plain ASCII: what clients make of other signs (`\\`, `%2e`, a full stop of another script) differs, and the
host that is looked at has to be the one that is called."""
ENGINE_FLAG_PATTERN = r"^--[a-z][a-z0-9.-]*(=.*)?$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=253)]
CheckpointName = Annotated[Name, refers_to("Checkpoint", "SFTJob", "GRPOJob")]
"""A training job makes a Checkpoint of its own name."""
SecretName = Annotated[Name, refers_to("Secret")]
PoolName = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
ModelUri = Annotated[str, StringConstraints(pattern=MODEL_URI_PATTERN, max_length=1024)]
HttpUrl = Annotated[str, StringConstraints(pattern=HTTP_URL_PATTERN, max_length=1024)]
EngineFlag = Annotated[str, StringConstraints(pattern=ENGINE_FLAG_PATTERN, max_length=512)]

EXACTLY_ONE_MODEL = (
    "has(self.checkpoint) != has(self.uri)",
    "set exactly one of checkpoint (a Checkpoint's name) and uri (hf://org/name or s3://...)",
)
S3_NEEDS_DIGEST = (
    "!has(self.uri) || !self.uri.startsWith('s3://') || has(self.digest)",
    "an s3:// uri needs digest (sha256:...), so that what is loaded is pinned",
)
EXACTLY_ONE_LLM = (
    "has(self.endpoint) != has(self.server)",
    "set exactly one of endpoint (an OpenAI-compatible URL) and server (pods that this operator runs)",
)
GROUPS_NEED_GPUS = (
    "self.nodes == 1 || self.gpusPerNode > 0",
    "nodes above 1 needs gpusPerNode: a group works on GPUs; set gpusPerNode, or nodes to 1",
)
ONE_POD = (
    "self.compute.nodes == 1",
    "compute.nodes must be 1: this stage runs in one pod; leave compute.nodes out",
)
MEASURED_VARIANT = (
    "self.settings.variant != 'PlannerOnly' && (self.settings.variant != 'WithoutTools' || !self.settings.tools) && "
    "(self.settings.tools || self.settings.variant in ['Full', 'WithoutTools'])",
    "settings.variant must be one that ranks (not PlannerOnly), and WithoutTools is the one with settings.tools false",
)
PODS_BY_SHARDS = (
    "self.compute.nodes == 1",
    "compute.nodes must be 1: the pods of this stage work on their own; use shards for more of them",
)
RESERVED_FLAGS = {
    "--api-key": "the server is reached inside the cluster only, and secrets do not belong into arguments",
    "--config": "set each option by itself",
    "--data-parallel-size": "set replicas",
    "--dtype": "set dtype",
    "--headless": "set compute.nodes",
    "--host": "it is fixed",
    "--master-addr": "set compute.nodes",
    "--master-port": "set compute.nodes",
    "--max-model-len": "set maxModelLen",
    "--model": "set model",
    "--nnodes": "set compute.nodes",
    "--node-rank": "set compute.nodes",
    "--pipeline-parallel-size": "set pipelineParallelSize",
    "--port": "it is fixed",
    "--revision": "write the revision behind the model, hf://org/name@revision",
    "--served-model-name": "it follows from the model",
    "--tensor-parallel-size": "set tensorParallelSize",
    "--uds": "the server is reached by its Service",
}
"""Flags of `vllm serve` that the operator sets itself, and what to do instead."""
OWN_FLAGS = (
    f"self.engineArgs.all(flag, !flag.matches('^({'|'.join(RESERVED_FLAGS)})(=.*)?$'))",
    "engineArgs must not contain what the operator sets itself ("
    + ", ".join(flag.removeprefix("--") for flag in RESERVED_FLAGS)
    + "): use the server's own fields; keys never belong into arguments",
)


class Ref(Model):
    """A resource of the same namespace; of which kind, its subclasses say."""

    name: Name
    """The resource's metadata.name."""


class DatasetRef(Ref):
    """A RecDataset of the same namespace."""

    name: Annotated[Name, refers_to("RecDataset")]
    """The resource's metadata.name."""


class VerbalizationRef(Ref):
    """A Verbalization of the same namespace."""

    name: Annotated[Name, refers_to("Verbalization")]
    """The resource's metadata.name."""


class TeacherRunRef(Ref):
    """A TeacherRun of the same namespace."""

    name: Annotated[Name, refers_to("TeacherRun")]
    """The resource's metadata.name."""


class AgainstRef(Model):
    """What a model is compared with: an Evaluation or a TeacherRun of this namespace, or the artifact of either."""

    model_config = CEL(
        (
            "[has(self.evaluation), has(self.teacherRun), has(self.uri)].exists_one(given, given)",
            "set exactly one of evaluation (an Evaluation's name), teacherRun (a TeacherRun's name, on the test tasks) "
            "and uri (s3://... of its report or trajectories)",
        ),
        ("!has(self.uri) || has(self.digest)", "uri needs digest (sha256:...), so that what is compared is pinned"),
    ).config()

    evaluation: Annotated[Name, refers_to("Evaluation")] | None = None
    """An Evaluation's metadata.name; it measured the same tasks of the same dataset."""
    teacher_run: Annotated[Name, refers_to("TeacherRun")] | None = None
    """A TeacherRun's metadata.name; it ran on at least these tasks, with `split` Test and `filter` None."""
    uri: S3Uri | None = Field(default=None, max_length=1024)
    """`s3://...` of a report or of trajectories, together with its digest."""
    digest: Digest | None = None
    """The artifact's digest; with `evaluation` or `teacherRun`, refuses an artifact of another digest."""

    @property
    def name(self) -> str | None:
        """The resource's name; None for a URI."""
        return self.evaluation or self.teacher_run


class SecretKeyRef(Model):
    """A key of a Secret in the same namespace."""

    name: SecretName
    """The Secret's metadata.name."""
    key: str = Field(default="apiKey", pattern=DATA_KEY_PATTERN, max_length=253)
    """Key inside the Secret's data."""


class Resources(Model):
    """CPU, memory and scratch space of a pod's main container; GPUs follow from gpusPerNode."""

    cpu: Quantity | None = None
    """CPU request, e.g. `4` or `500m`; there is no limit, so that idle cores are used."""
    memory: Quantity | None = None
    """Memory request, e.g. `16Gi`."""
    memory_limit: Quantity | None = None
    """Memory limit; none when left out, so that a wrong guess does not kill a long run."""
    scratch: Quantity | None = None
    """Size limit of the pod's work folder (emptyDir)."""


class SecretRef(Model):
    """A Secret of the same namespace."""

    name: SecretName
    """The Secret's metadata.name."""


class PodTemplate(Model):
    """What pods carry besides what the operator gives them. Where they run is the pool's matter."""

    model_config = CEL(
        (
            f"self.labels.all(key, !key.matches(r'{OWN_KEYS_PATTERN}')) && "
            f"self.annotations.all(key, !key.matches(r'{OWN_KEYS_PATTERN}'))",
            "labels and annotations by which pods are found (star.recsys.dev/, batch.kubernetes.io/, kueue.x-k8s.io/, "
            "app.kubernetes.io/name and their like) are set by the operator; use another key",
        ),
        (
            f"!self.annotations.exists(key, key.matches(r'{NODE_KEYS_PATTERN}'))",
            "annotations by which nodes give pods devices, networks or rights (cdi.k8s.io/, crio.io, nri.io, "
            "k8s.v1.cni.cncf.io/, security.beta.kubernetes.io/ and their like) are the platform's: leave it out, or "
            "ask whoever runs the operator to set it in the pods of a pool (the chart's values)",
        ),
    ).config()

    labels: Labels = {}
    """Further labels, e.g. of a cost centre, or `sidecar.istio.io/inject: "false"`."""
    annotations: Annotations = {}
    """Further annotations."""
    service_account_name: Annotated[Name, refers_to("ServiceAccount")] | None = None
    """ServiceAccount of the pods, e.g. one that a cloud's workload identity knows. No API token is mounted."""
    image_pull_secrets: tuple[SecretRef, ...] = Field(default=(), max_length=16)
    """Secrets to pull images with, besides those of the cluster."""


class Compute(Model):
    """Where and with what a stage runs."""

    model_config = CEL(GROUPS_NEED_GPUS).config()

    pool: PoolName = "cpu"
    """A pool of the chart's values: node selector, tolerations, GPU resource name and image variant."""
    nodes: int = Field(default=1, ge=1, le=1024)
    """Pods that work as one group."""
    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs of each pod, asked for by the pool's GPU resource; 0 runs on the CPU."""
    resources: Resources = Resources()
    """CPU, memory and scratch space of each pod."""
    priority_class_name: Annotated[Name, refers_to("PriorityClass")] | None = None
    """PriorityClass of the pods; may change while the run waits."""
    queue_name: Annotated[Name, refers_to("LocalQueue")] | None = None
    """Kueue LocalQueue; the Job is created suspended and starts when the queue admits it."""
    pod_template: Annotated[PodTemplate | None, Later()] = None
    """Labels, annotations and identity of the pods, beyond those that the cluster gives them."""


class ModelRef(Model):
    """Weights: a Checkpoint of this namespace, or a URI."""

    model_config = CEL(EXACTLY_ONE_MODEL, S3_NEEDS_DIGEST).config()

    checkpoint: CheckpointName | None = None
    """A Checkpoint's metadata.name."""
    uri: ModelUri | None = None
    """`hf://org/name[@revision]`, or `s3://...` of an artifact together with its digest."""
    digest: Digest | None = None
    """The artifact's digest; with `checkpoint`, refuses a Checkpoint of another digest."""


class Endpoint(Model):
    """An OpenAI-compatible endpoint that is already there."""

    url: HttpUrl
    """URL up to and including `/v1`; at one of the platform's hosts, where it has a list of them."""
    model: str = Field(min_length=1, max_length=253)
    """Model name to ask for."""
    secret_ref: SecretKeyRef | None = None
    """API key."""


class LLMServer(Model):
    """A vLLM server that the operator runs while it is needed. Equal servers of one namespace are shared."""

    model_config = CEL(
        (
            "self.compute.gpusPerNode == 0 || self.tensorParallelSize * self.pipelineParallelSize == "
            "self.compute.gpusPerNode * self.compute.nodes",
            "tensorParallelSize x pipelineParallelSize must equal compute.nodes x compute.gpusPerNode",
        ),
        (
            "self.compute.gpusPerNode != 0 || (self.tensorParallelSize == 1 && self.pipelineParallelSize == 1)",
            "parallel sizes above 1 need compute.gpusPerNode",
        ),
        OWN_FLAGS,
    ).config()

    model: ModelRef
    """The weights to serve."""
    replicas: int = Field(default=1, ge=1, le=256)
    """Independent copies of the server behind one Service."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    """GPUs one layer is split over (`--tensor-parallel-size`)."""
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    """Groups of layers on different GPUs (`--pipeline-parallel-size`)."""
    max_model_len: int | None = Field(default=None, ge=16, le=MAX_TOKENS)
    """Tokens of prompt and answer together (`--max-model-len`)."""
    dtype: str = Field(default="auto", pattern=r"^(auto|bfloat16|float16|float32)$")
    """Number format of weights and activations (`--dtype`). `auto` is the model's own on GPUs; on CPUs it is
    bfloat16 where the node's processor has instructions for it, else float32, which gives repeatable results there."""
    engine_args: tuple[EngineFlag, ...] = Field(default=(), max_length=32)
    """Further `vllm serve` flags, each `--name` or `--name=value` with the whole name: those that change how fast it
    serves, and those that the platform allows besides."""
    compute: Compute = Compute()
    """Where one replica runs; more than one node makes a group that works as one."""


class LLM(Model):
    """Where a stage's LLM calls go."""

    model_config = CEL(EXACTLY_ONE_LLM).config()

    endpoint: Endpoint | None = None
    """An OpenAI-compatible endpoint that is already there."""
    server: LLMServer | None = None
    """A vLLM server that the operator runs while it is needed."""
    concurrency: int = Field(default=64, ge=1, le=4096)
    """Calls in flight from one pod."""
    timeout_seconds: int = Field(default=600, ge=1, le=86400)
    """For one call."""
    rate_limits: RateLimits | None = None
    """What the endpoint takes, from all pods of the run together; calls beyond it wait."""
    prices: TokenPrices | None = None
    """What its tokens cost; adds `cost` to the run's metrics."""


class CachePolicy:
    """Values of `cachePolicy`."""

    IF_PRESENT = "IfPresent"
    NEVER = "Never"


class RunSpec(Model):
    """What every run-to-completion kind has."""

    suspend: bool = False
    """Stop the pods and keep the state; switching it off continues."""
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=MAX_SECONDS)
    """Remove the run's pods and Jobs this long after it ended; the resource and its artifact stay."""
    active_deadline_seconds: int | None = Field(default=None, ge=1, le=MAX_SECONDS)
    """Fail an attempt that takes longer."""
    retries: int = Field(default=2, ge=0, le=100)
    """Further attempts after a retryable failure; a terminal one is never retried."""
    cache_policy: str = Field(default=CachePolicy.IF_PRESENT, pattern=r"^(IfPresent|Never)$")
    """`IfPresent` reuses the artifact of equal work; `Never` always runs."""
