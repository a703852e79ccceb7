"""The operator's settings: what the chart's values say about this cluster, read once at start from a mounted file."""

from typing import Annotated

from pydantic import Field, StringConstraints

from star_contracts.base import Model
from star_contracts.job import Store
from star_contracts.progress import NamespaceName
from star_operator.core.engineargs import EngineFlagName
from star_operator.core.network import PodNetwork
from star_operator.core.outside import CABundle, HostPattern, Proxy
from star_operator.core.podmeta import PodDefaults, PodSecurity
from star_operator.core.quantity import Quantity

STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the store's Secret, and the environment variables that pods get them as."""
STORE_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105 - a key's name
"""A further key of it, which temporary credentials have."""
StoreUri = Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.-]+)*$")]


class Toleration(Model):
    """A pod toleration (core/v1 Toleration)."""

    key: str | None = None
    operator: str = "Exists"
    value: str | None = None
    effect: str | None = None


class Pool(Model):
    """A kind of node. `h20` and `cpu` ship as defaults."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    """Extended resource a GPU is asked for by."""
    rdma_resource: str | None = None
    """Extended resource of the RDMA device, one a pod, for groups of more than one node."""
    image_variant: str = Field(default="cpu", pattern=r"^(cpu|cuda)$")
    """Which variant of the images runs here."""
    topology_key: str | None = None
    """Label whose value should be equal among a group's nodes, e.g. `topology.kubernetes.io/zone`."""
    shm_size: Quantity = "1Gi"
    """Size of /dev/shm."""
    runtime_class_name: str | None = None
    env: dict[str, str] = {}
    """Further environment of every container on this pool, e.g. NCCL settings."""
    pods: PodDefaults = PodDefaults()
    """What the pods of this pool carry, besides what all pods do."""


class ImageSet(Model):
    """Image references of one variant, by role."""

    jobs: str
    trainer: str
    rollout: str
    vllm: str
    gateway: str
    git: str = ""
    """Promotion's; empty where the values are of a chart that has none yet."""

    def of(self, role: str) -> str:
        """Return the reference of a role (`jobs`, `trainer`, `rollout`, `vllm`, `gateway`, `git`)."""
        reference: str = getattr(self, role)
        return reference


class StoreSettings(Model):
    """The artifact store of this cluster."""

    uri: StoreUri
    """`s3://bucket[/prefix]` under which all artifacts lie."""
    connection: Store = Store()
    secret_name: str = "star-store"  # noqa: S105 - a name
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where they are temporary; expected
    in each namespace that has resources. Empty: pods have no keys but the role of their service account."""
    gateway_secret_name: str = ""
    """Secret of the same keys for gateways, whose account need only read artifacts and write feedback; expected in each
    namespace that serves. Empty: gateways have the other pods' keys."""

    @property
    def serving_secret(self) -> str:
        """Return the name of the Secret that gateways use; empty for none."""
        return self.gateway_secret_name or self.secret_name


class RetentionSettings(Model):
    """What is kept of what pipelines and gates made, where a pipeline does not say it."""

    enabled: bool = True
    """Let go of anything at all."""
    keep_runs: int = Field(default=5, ge=1, le=1000)
    """The last runs of each series that succeeded."""
    keep_failed_runs: int = Field(default=2, ge=0, le=1000)
    """The last runs of each series that failed."""
    keep_gate_evaluations: int = Field(default=10, ge=0, le=1000)
    """The last gate Evaluations of each StarDeployment, besides those of its revisions."""
    grace_period_seconds: int = Field(default=86400, ge=0, le=31536000)
    """Seconds that artifacts which are let go stay in the store."""
    finished_job_seconds: int = Field(default=604800, ge=0)
    """Seconds after their end that Jobs of pipelines and gates, with their pods' logs, are kept."""


class ProofSettings(Model):
    """What is written beside checkpoints."""

    enabled: bool = True
    """Write model cards, provenance and verdicts at all."""
    signing_secret_name: str = ""
    """Secret with `signing.key`, and `signing.password` where that is encrypted, in each namespace whose proofs are to
    be signed. Empty: nothing is signed."""


class Settings(Model):
    """All of it."""

    store: StoreSettings
    pools: dict[str, Pool]
    images: dict[str, ImageSet]
    """By variant: `cpu`, `cuda`."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    pods: PodDefaults = PodDefaults()
    """What all pods carry that this operator starts."""
    pod_security: PodSecurity = PodSecurity()
    """User and groups of every pod."""
    ca_bundle: CABundle = ""
    """Certificate authorities that pods trust, in PEM, in place of the public ones; empty for the public ones."""
    proxy: Proxy = Proxy()
    """Proxies for HTTP clients in pods."""
    progress_url: str = "http://star-operator.star-system.svc:8081/v1/progress"
    cluster_domain: str = "cluster.local"
    llm_idle_seconds: int = 120
    """How long a server that nobody uses is kept, in case the next stage wants it."""
    server_updates: int = Field(default=1, ge=0, le=1000)
    """StarDeployments whose servers are moved to another build of the operator at the same time; 0: none by itself."""
    allowed_engine_args: tuple[EngineFlagName, ...] = ()
    """Flags of `vllm serve` that resources may set besides those of `core.engineargs`."""
    allowed_endpoint_hosts: tuple[HostPattern, ...] = ()
    """Hosts, and domains with a dot in front, that endpoints may be at; empty: any but those of the node."""
    allowed_git_hosts: tuple[HostPattern, ...] = ()
    """The same for promotions' repositories and forges."""
    retention: RetentionSettings = RetentionSettings()
    """What is kept."""
    proofs: ProofSettings = ProofSettings()
    """What is written beside checkpoints."""
    network: PodNetwork = PodNetwork()
    """NetworkPolicies of pods."""
    watch_namespaces: tuple[NamespaceName, ...] = ()
    """Namespaces whose resources are looked after; empty: all."""
    workers: int = 8
    """Resources reconciled at the same time."""
    resync_seconds: int = 300
    """Every resource is looked at again at least this often."""
