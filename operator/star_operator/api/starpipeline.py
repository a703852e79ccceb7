"""StarPipeline: the chain as one resource, from raw data to a checkpoint and, where asked, to what serves."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import Field, JsonValue, StringConstraints, create_model

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model
from star_operator.api.chain import INFO, STAGES, StageName, pipeline_rules, template_model
from star_operator.api.common import DNS_LABEL, ModelRef, Name
from star_operator.api.meta import AGE, CEL, PHASE, PRESERVE, WHY, Column, KindInfo, Phase, Resource, Status, list_map
from star_operator.api.references import refers_to
from star_operator.api.stardeployment import METRIC_PATTERN

TEMPLATE_OR_USE = (
    "has(self.template) != has(self.use)",
    "set exactly one of template (what to make) and use (what is there already); leave the stage out for neither",
)
MAX_VARIANTS = 16
Series = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
VARIANT_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$"
_VARIANT_NAMES: dict[str, JsonValue] = {"propertyNames": {"pattern": VARIANT_PATTERN}}
Patch = Annotated[dict[str, JsonValue], Field(json_schema_extra={PRESERVE: True})]
"""A JSON merge patch (RFC 7386)."""


class Stage(Model):
    """A stage of the chain: made from a template, or there already."""

    template: Any = None
    use: Any = None


class _Use(Model):
    """A resource of this namespace that is there already."""

    digest: Digest | None = None
    """Digest of its artifact; refuses any other."""


def _stage_model(stage: StageName, use: type[Model] | None = None) -> type[Stage]:
    info = INFO[stage]
    if use is None:
        name: Any = (Annotated[Name, refers_to(info.kind)], Field(description="The resource's metadata.name."))
        use = create_model(f"{info.kind}Use", __base__=_Use, __doc__=_Use.__doc__, name=name)
    template = template_model(stage)
    base = type("StageBase", (Stage,), {"model_config": CEL(TEMPLATE_OR_USE).config(), "__module__": __name__})
    in_place = f"What is there already in place of a new {info.kind}."
    fields: dict[str, Any] = {
        "template": (template | None, Field(default=None, description=template.__doc__)),
        "use": (use | None, Field(default=None, description=in_place)),
    }
    return create_model(f"{info.kind}Stage", __base__=base, __doc__=f"The {info.kind} of the chain.", **fields)


if TYPE_CHECKING:
    DatasetStage: TypeAlias = Stage
    VerbalizationStage: TypeAlias = Stage
    TeacherStage: TypeAlias = Stage
    SFTStage: TypeAlias = Stage
    GRPOStage: TypeAlias = Stage
    EvaluationStage: TypeAlias = Stage
    _Deployment: TypeAlias = Stage
else:
    DatasetStage = _stage_model(StageName.DATASET)
    VerbalizationStage = _stage_model(StageName.VERBALIZATION)
    TeacherStage = _stage_model(StageName.TEACHER)
    SFTStage = _stage_model(StageName.SFT, ModelRef)
    GRPOStage = _stage_model(StageName.GRPO, ModelRef)
    EvaluationStage = _stage_model(StageName.EVALUATION)
    _Deployment = _stage_model(StageName.DEPLOYMENT)


class DeploymentStage(_Deployment):
    """The StarDeployment that serves what comes out. It belongs to no run: the next one moves it on."""

    name: Annotated[Name, refers_to("StarDeployment")] | None = None
    """Its metadata.name where it is made from a template; the series by default."""


class BaseModelChoice(StrEnum):
    """What training starts from."""

    BASE = "Base"
    """`sft.template.model`, at every run."""
    INCUMBENT = "Incumbent"
    """The checkpoint that the deployment serves when the run begins; `sft.template.model` while nothing serves."""


class Variant(Model):
    """What is different in one variant, by stage: JSON merge patches (RFC 7386) over the templates."""

    dataset: Patch | None = None
    """Over dataset.template."""
    verbalization: Patch | None = None
    """Over verbalization.template."""
    teacher: Patch | None = None
    """Over teacher.template."""
    sft: Patch | None = None
    """Over sft.template."""
    grpo: Patch | None = None
    """Over grpo.template."""
    evaluation: Patch | None = None
    """Over evaluation.template."""


class Goal(StrEnum):
    """Which figure is the better one."""

    HIGHEST = "Highest"
    LOWEST = "Lowest"


class Select(Model):
    """Which of the variants goes on."""

    metric: str = Field(pattern=METRIC_PATTERN, max_length=63)
    """A metric of the stage's report, e.g. `hrAvg`."""
    from_: str = Field(default=StageName.EVALUATION, alias="from", pattern="^(evaluation)$")
    """The stage whose metrics are compared."""
    goal: Goal = Goal.HIGHEST
    """Which figure is the better one."""


class Retention(Model):
    """How much of the series is kept. The newest run of a series speaks for all of it; what is left out is as the
    chart's values say."""

    keep_runs: int | None = Field(default=None, ge=1, le=1000)
    """The last runs that succeeded."""
    keep_failed_runs: int | None = Field(default=None, ge=0, le=1000)
    """The last runs that failed."""
    grace_period_seconds: int | None = Field(default=None, ge=0, le=31536000)
    """How long artifacts that are let go stay in the store; whatever takes one up meanwhile keeps it."""


def _needs() -> list[tuple[str, str]]:
    rules = []
    for stage in STAGES:
        path = f"self.{stage}"
        without = f"!has({path})" if stage is StageName.DEPLOYMENT else f"!has({path}) || !has({path}.template)"
        for group in INFO[stage].needs:
            there = " || ".join(f"has(self.{needed})" for needed in group)
            text = f"{stage} needs {' or '.join(group)}: give it a template or use, or leave {stage} out"
            rules.append((f"{without} || {there}", text))
    return rules


def _patched() -> list[tuple[str, str]]:
    rules = []
    for stage in STAGES[:-1]:
        untouched = f"self.variants.all(name, !has(self.variants[name].{stage}))"
        text = f"variants patch {stage}.template, which is not there: give {stage} a template, or take the patch out"
        rules.append((f"(has(self.{stage}) && has(self.{stage}.template)) || {untouched}", text))
    return rules


class StarPipelineSpec(Model):
    """The chain in its fixed shape: each stage a template, something that is there, or left out."""

    model_config = CEL(
        (" || ".join(f"has(self.{stage})" for stage in STAGES), f"give at least one stage: {', '.join(STAGES)}"),
        *_needs(),
        *(rule for stage in STAGES for rule in pipeline_rules(stage)),
        *_patched(),
        (
            "!has(self.grpo) || !has(self.grpo.use) || !has(self.sft)",
            "grpo.use is a finished model, for which sft has nothing to do: leave sft out, or give grpo a template",
        ),
        (
            "size(self.variants) < 2 || has(self.select) || !has(self.deployment)",
            "several variants and a deployment need select: say by which metric the one that is deployed is chosen",
        ),
        (
            "!has(self.select) || (has(self.evaluation) && has(self.evaluation.template))",
            "select compares what the evaluation measured: give evaluation a template, or leave select out",
        ),
        (
            "self.baseModel == 'Base' || (has(self.deployment) && has(self.sft) && has(self.sft.template))",
            "baseModel Incumbent trains what the deployment serves: give a deployment and sft.template, or set Base",
        ),
        ("self.cancel || !oldSelf.cancel", "cancel cannot be taken back: create a new StarPipeline, which reuses work"),
    ).config()

    dataset: DatasetStage | None = None
    """The data."""
    verbalization: VerbalizationStage | None = None
    """Its collaborative signals in words; refreshed from the series' last run."""
    teacher: TeacherStage | None = None
    """The teacher's trajectories."""
    sft: SFTStage | None = None
    """Supervised fine-tuning; `use` names a model that is there: a Checkpoint, or a URI with its digest."""
    grpo: GRPOStage | None = None
    """Policy optimization; `use` names a model that is there: a Checkpoint, or a URI with its digest."""
    evaluation: EvaluationStage | None = None
    """What the last training stage made, measured."""
    deployment: DeploymentStage | None = None
    """What serves it."""
    base_model: BaseModelChoice = BaseModelChoice.BASE
    """What training starts from."""
    series: Series | None = None
    """Runs of one series follow each other: a Verbalization is refreshed from the one before, a TeacherRun takes
    trajectories over. The pipeline's name by
    default; a RetrainSchedule gives its own."""
    variants: dict[str, Variant] = Field(default={}, max_length=MAX_VARIANTS, json_schema_extra=_VARIANT_NAMES)
    """Chains beside each other, by name: all share what comes before the first stage in which they differ."""
    select: Select | None = None
    """Which variant goes on to the deployment, and is what the pipeline made."""
    retention: Retention | None = None
    """How many runs of the series are kept; as the chart's values say by default."""
    suspend: bool = False
    """Suspend all stages that run; switching it off continues."""
    cancel: bool = False
    """End all stages that have not ended, for good; what is done stays."""

    def stage(self, name: StageName) -> Stage | None:
        """Return a stage by its name; None when it is left out."""
        found: Stage | None = getattr(self, name)
        return found


class StageStatus(Model):
    """One stage of the chain, or of one variant's."""

    name: str
    """The stage, or `stage/variant` where it is one variant's own."""
    stage: str
    """The stage."""
    variant: str = ""
    """The variant whose own it is; empty for what all share."""
    kind: str = ""
    """The kind it makes, or `Model` for a model that is used by its URI."""
    resource: str = ""
    """The resource's metadata.name."""
    tries: int = 1
    """Which make of the resource this is: 1, and one more for each retry from this stage or one before."""
    phase: Phase = Phase.PENDING
    """How far it is."""
    progress: str = ""
    """`done/total unit` of its running step."""
    eta: str | None = None
    """RFC 3339, UTC: when its running step ends, at the pace so far."""
    reused: bool = False
    """True when nothing was run: artifacts of equal work were found."""
    message: str = ""
    """Why it is in this phase."""
    gpus: int = 0
    """GPUs it holds while it runs, its servers' among them."""
    running_since: str | None = None
    """RFC 3339, UTC: since when it runs; empty while it does not."""
    gpu_seconds: float = 0.0
    """GPUs times seconds that it ran, up to running_since."""


class PinnedModel(Model):
    """A model by its artifact."""

    checkpoint: str = ""
    """The Checkpoint's metadata.name, where it has one."""
    uri: S3Uri
    """Prefix of the artifact in the store."""
    digest: Digest
    """The artifact's digest."""


class StarPipelineStatus(Status):
    """How far the stages are, and what came out."""

    stages: tuple[StageStatus, ...] = Field(default=(), json_schema_extra=list_map("name"))
    """A row a stage, in the order of the chain."""
    resolved: bool = False
    """True once incumbent and previous are decided."""
    incumbent: PinnedModel | None = None
    """The checkpoint that training starts from in place of the base model."""
    previous: str = ""
    """The Verbalization of the series that this run's is refreshed from."""
    previous_teacher: str = ""
    """The TeacherRun of the series that this run's takes trajectories over from."""
    previous_of_variants: dict[str, str] = {}
    """The same for stages of one variant, by their row, e.g. `teacher/small`: of the same variant where the last run
    had it, else of what all shared."""
    variant: str = ""
    """The variant that was selected."""
    checkpoint: PinnedModel | None = None
    """The model that came out."""
    retrying: str = ""
    """The retry that is being begun, until its annotation is gone."""
    gpu_seconds_spent: float = 0.0
    """GPUs times seconds that its stages ran."""
    gpu_seconds_left: float | None = None
    """GPUs times seconds that the running stages still take, at the pace so far."""


class StarPipeline(Resource[StarPipelineSpec, StarPipelineStatus]):
    """The chain as one resource: it makes the stages' resources, which wait for each other, and sums them up."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "StarPipeline",
        "starpipelines",
        "sp",
        columns=(
            PHASE,
            Column("Stages", ".status.progressText"),
            Column("Result", ".status.headline"),
            Column("Checkpoint", ".status.checkpoint.checkpoint"),
            AGE,
            WHY,
            Column("GPU-s", ".status.gpuSecondsSpent", "number", priority=1),
        ),
        mutable=("suspend", "cancel", "retention"),
    )
    status: StarPipelineStatus = StarPipelineStatus()
