"""Steps: what a run-to-completion resource runs, one Job a step. Every kind's builder returns these."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from star_contracts.artifact import ArtifactRef
from star_contracts.base import lasting, value_hash
from star_contracts.errors import JobWarning
from star_contracts.job import REVISIONS, LLMEndpoint, ModelSource, Stage
from star_contracts.names import SPEC_DIR
from star_contracts.settings import GRPOHyperparameters, SFTHyperparameters
from star_operator.api.common import Compute, LLMServer, SecretKeyRef

ASK_PORT = 8099
"""A job's pod listens here once it needs its model, which makes it ready; its step's servers are started then."""


@dataclass(frozen=True)
class Owner:
    """The resource that owns what is built."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class ServerPlan:
    """A vLLM server a step needs: its spec with the model resolved to a pinned source."""

    server: LLMServer
    source: ModelSource

    @property
    def name(self) -> str:
        """Return the server's name: equal specs give equal names, so that they are shared within a namespace.

        Another version of the operator gives the same one: what runs is called by it.
        """
        return "llm-" + self._hash()[:10]

    @property
    def asked(self) -> str:
        """Return the digest of what a resource asks for, but for how many: another one has its servers made anew."""
        return self._hash("replicas")

    def _hash(self, *without: str) -> str:
        spec = {key: value for key, value in lasting(self.server).items() if key not in {"model", *without}}
        source = self.source.artifact.digest if self.source.artifact else self.source.hub
        return value_hash({"spec": spec, "source": source}).removeprefix("sha256:")

    @property
    def served_model(self) -> str:
        """Return the model name that requests ask for: it names the weights, so that it can be recorded."""
        if self.source.artifact is not None:
            return self.source.artifact.digest.removeprefix("sha256:")[:12]
        return self.source.hub or ""

    def endpoint(self, namespace: str, cluster_domain: str, *, concurrency: int, timeout: float) -> LLMEndpoint:
        """Return where the server answers."""
        return LLMEndpoint(
            base_url=f"http://{self.name}.{namespace}.svc.{cluster_domain}:8000/v1",
            model=self.served_model,
            concurrency=concurrency,
            timeout_seconds=timeout,
            api_key_file=f"{SPEC_DIR}/keys/{self.name}",
            ask_port=ASK_PORT,
            gpus=self.server.compute.nodes * self.server.compute.gpus_per_node,
        )


@dataclass(frozen=True)
class Step:
    """One Job of a resource's run."""

    name: str
    stage: Stage
    role: str
    """Image role: `jobs`, `trainer` or `rollout`."""
    compute: Compute
    inputs: dict[str, str]
    """What the work depends on besides its parameters, by role: artifact digests, model names."""
    shards: int = 1
    """Independent pods (an Indexed Job's completions); `compute.nodes` is a group that works as one."""
    has_artifact: bool = True
    """False for a sharded step that leaves part files for the next step to collect."""
    servers: tuple[ServerPlan, ...] = ()
    api_keys: dict[str, SecretKeyRef] = field(default_factory=dict)
    """Secrets mounted as files /etc/star/keys/<key of this dict>."""

    warnings: tuple[JobWarning, ...] = ()
    """What a person should know of the step besides what its job says."""

    continues: "Step | None" = None
    """The step whose part files this one collects: they share a work area."""

    collected_by: "Step | None" = None
    """The step that collects the part files of this one: where its artifact is there already, nothing is to be made."""

    looks_for: "Step | None" = None
    """The step whose work this one only looks for (`builders/lookup.py`)."""

    @property
    def work_area(self) -> tuple[str, str]:
        """Return (step name, work hash) of the work area: this step's own, or that of the step it continues."""
        return self.continues.work_area if self.continues is not None else (self.name, self.work_hash)

    @property
    def work_hash(self) -> str:
        """Return the digest that equal work shares: parameters, input digests and the stage's revision.

        Not places, pools or endpoints. Revision 1 is left out, so that what was made before there were any is found.
        """
        before = self.continues.work_hash if self.continues is not None else ""
        work = {"stage": _parameters(self.stage.to_json_dict()), "inputs": self.inputs, "continues": before}
        revision = REVISIONS.get(self.stage.stage, 1)
        return value_hash(work if revision == 1 else work | {"revision": revision})


H = TypeVar("H", SFTHyperparameters, GRPOHyperparameters)


def with_precision(hyperparameters: H, compute: Compute) -> H:
    """Return them with what is known of the precision: on GPUs, what `auto` is there is the same work as its name."""
    return hyperparameters.model_copy(update={"precision": hyperparameters.precision.on(compute.gpus_per_node)})


_NOT_THE_OUTCOME = frozenset({"tokenBudget", "sourceDigest", "previous"})
"""Parameters that say how far a stage may go, what it must refuse, or where it finds what was done before: of entries
that would be made in the same way. Not what it makes."""


def _parameters(value: Any) -> Any:
    """Reduce a stage to what decides its outcome: artifacts become digests, endpoints and limits disappear."""
    if isinstance(value, dict):
        if set(value) == {"uri", "digest"}:
            return value["digest"]
        if "baseUrl" in value:
            return None
        return {key: _parameters(item) for key, item in value.items() if key not in _NOT_THE_OUTCOME}
    if isinstance(value, list):
        return [_parameters(item) for item in value]
    return value


@dataclass(frozen=True)
class Origin:
    """The resource that an input was taken from."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Inputs:
    """What a resource's references resolved to."""

    artifacts: dict[str, ArtifactRef] = field(default_factory=dict)
    """By role: `dataset`, `signals`, `trajectories`."""
    models: dict[str, ModelSource] = field(default_factory=dict)
    """By role: `model` (to train), `llm` (to serve), `llm.<agent>` (to serve to one agent)."""
    warnings: tuple[JobWarning, ...] = ()
    """What is done without."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """Which resources they were taken from, by role; none of what is named by its URI."""

    def only(self, *roles: str) -> "Inputs":
        """Return the artifacts of these roles alone."""
        artifacts = {role: ref for role, ref in self.artifacts.items() if role in roles}
        return Inputs(artifacts, origins={role: one for role, one in self.origins.items() if role in artifacts})

    def __or__(self, other: "Inputs") -> "Inputs":
        """Return both together."""
        return Inputs(
            self.artifacts | other.artifacts,
            self.models | other.models,
            self.warnings + other.warnings,
            self.origins | other.origins,
        )
