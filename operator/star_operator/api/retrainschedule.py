"""RetrainSchedule: a pipeline for every tenant that opted in, by the clock, within a budget of GPUs."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import ConfigDict, Field, create_model

from star_contracts.base import Model
from star_operator.api.common import Name
from star_operator.api.cron import CLOCK_PATTERN, CRON_PATTERN, KNOWN_ZONE, SHORT_MONTHS, ZONE_PATTERN
from star_operator.api.meta import (
    AGE,
    BARE,
    CEL,
    PHASE,
    RULES,
    WHY,
    Column,
    KindInfo,
    Phase,
    Resource,
    Scope,
    Status,
    list_map,
)
from star_operator.api.references import refers_to
from star_operator.api.selectors import NamespaceSelector
from star_operator.api.stardeployment import METRIC_PATTERN
from star_operator.api.starpipeline import StarPipelineSpec

MAX_TENANTS = 500
"""Namespaces of one schedule. A row of status has 0.7 KB at most, and as much again for the fields' owners
(metadata.managedFields): with the runs they stay below what etcd takes for one object (1.5 MB)."""
MAX_RUNS = 3000
"""Runs of all namespaces that status remembers, shared evenly; `LEAST_RUNS` a namespace at the least. 0.2 KB each."""
LEAST_RUNS = 6
MOST_LIVE = 5
"""Runs of one namespace that have not ended."""
MAX_OWED = 8
"""Ticks that one namespace is owed by a back-fill."""
MAX_MESSAGE = 240
PRIORITIES = range(1, 11)
OF_THE_SCHEDULE = ("series", "suspend", "cancel")
"""Fields of a pipeline's spec that the schedule fills in, or that belong to one run."""


class TriggerType(StrEnum):
    """What makes a run."""

    SCHEDULE = "Schedule"
    """Every time of the schedule."""
    NEW_DATA = "NewData"
    """A time of the schedule at which the source's inventory is another one than the last run's."""
    DRIFT = "Drift"
    """A time of the schedule at which a metric has been under its threshold for long enough."""


class Drift(Model):
    """When a model has drifted."""

    metric: str = Field(pattern=METRIC_PATTERN, max_length=63)
    """A metric of the StarDeployment's status: `online.hr1`, `.hr3`, `.hr5`, `online.hrAvg`, `online.ctr`."""
    below: float = Field(ge=-1e12, le=1e12)
    """The threshold."""
    min_chosen: int = Field(default=100, ge=1, le=10**9)
    """Recommendations from which users have chosen within the window; of fewer, an online metric says nothing."""
    for_seconds: int = Field(default=3600, ge=0, le=30 * 86400)
    """For how long the metric has to stay under it."""


class Trigger(Model):
    """What makes a run, besides a person."""

    model_config = CEL(
        (
            "has(self.drift) == (self.type == 'Drift')",
            "trigger.drift says when type Drift starts a run: set it for this type, and for no other",
        )
    ).config()

    type: TriggerType = TriggerType.SCHEDULE
    """What makes a run."""
    drift: Drift | None = None
    """For type Drift."""


class OverridesRef(Model):
    """A ConfigMap in each tenant's namespace; a namespace may do without it."""

    name: Annotated[Name, refers_to("ConfigMap")]
    """Its metadata.name. Its key `pipeline.yaml` is a JSON merge patch (RFC 7386), as YAML, over `pipeline`."""


class Weekday(StrEnum):
    """A day of the week."""

    MONDAY = "Mon"
    TUESDAY = "Tue"
    WEDNESDAY = "Wed"
    THURSDAY = "Thu"
    FRIDAY = "Fri"
    SATURDAY = "Sat"
    SUNDAY = "Sun"


class Window(Model):
    """Hours in which runs may start, by the clocks of timeZone."""

    model_config = CEL(("self.start != self.end", "start and end are equal: leave windows out for all day")).config()

    days: tuple[Weekday, ...] = Field(default=tuple(Weekday), min_length=1)
    """Days on which it opens."""
    start: str = Field(pattern=CLOCK_PATTERN, max_length=5)
    """When it opens, e.g. `22:00`."""
    end: str = Field(pattern=CLOCK_PATTERN, max_length=5)
    """When it closes; on the next day where this is the earlier one."""


class ConcurrencyPolicy(StrEnum):
    """What happens when a tenant's last run has not ended."""

    FORBID = "Forbid"
    """The next one waits for its end."""
    ALLOW = "Allow"
    """Both run."""
    REPLACE = "Replace"
    """The old one is cancelled, and the next one starts in its place."""


class DeletionPolicy(StrEnum):
    """What becomes of the runs when the schedule is deleted."""

    DELETE = "Delete"
    """They are deleted, and what runs ends."""
    ORPHAN = "Orphan"
    """They stay and go on."""


def _template() -> type[Model]:
    """Return the model of the template: a pipeline's spec without what is the schedule's."""
    extra: Any = StarPipelineSpec.model_config.get("json_schema_extra") or {}
    rules = [one for one in extra[RULES] if not any(f"self.{name}" in one["rule"] for name in OF_THE_SCHEDULE)]
    base = type("Template", (Model,), {"model_config": _with_rules(rules), "__module__": __name__})
    fields: dict[str, Any] = {
        name: (one.annotation, one)
        for name, one in StarPipelineSpec.model_fields.items()
        if name not in OF_THE_SCHEDULE
    }
    doc = "A StarPipeline's spec without series, suspend and cancel; `kubectl explain starpipeline.spec` tells of it."
    return create_model("PipelineTemplate", __base__=base, __doc__=doc, **fields)


def _with_rules(rules: list[Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={RULES: rules, BARE: True})


if TYPE_CHECKING:
    PipelineTemplate: TypeAlias = Model
else:
    PipelineTemplate = _template()


class RetrainScheduleSpec(Model):
    """When, for whom, what, and within which limits."""

    model_config = CEL(
        SHORT_MONTHS,
        KNOWN_ZONE,
        (
            "self.trigger.type != 'NewData' || (has(self.pipeline.dataset) && has(self.pipeline.dataset.template))",
            "trigger NewData looks at the source of pipeline.dataset.template: give it one, or take type Schedule",
        ),
        (
            "self.trigger.type != 'Drift' || has(self.pipeline.deployment)",
            "trigger Drift looks at what pipeline.deployment serves: give it one, or take type Schedule",
        ),
    ).config()

    schedule: str = Field(pattern=CRON_PATTERN, max_length=128)
    """Five fields as in crontab(5), names in capitals: minute, hour, day of month, month, day of week. What falls into
    the hour that summer time leaves out runs right after it; what falls into the hour that comes twice runs once."""
    time_zone: str = Field(default="Etc/UTC", pattern=ZONE_PATTERN, max_length=64)
    """IANA time zone of schedule and windows, e.g. `Europe/Berlin`."""
    trigger: Trigger = Trigger()
    """What makes a run."""
    namespace_selector: NamespaceSelector = NamespaceSelector()
    """Which namespaces. Besides, each opts in by its label `star.recsys.dev/retrain: "true"`."""
    pipeline: PipelineTemplate
    """The runs' spec: a StarPipeline's without series, suspend and cancel (`kubectl explain starpipeline.spec`)."""
    overrides: OverridesRef | None = None
    """What tenants may change of it."""
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    """What happens when a tenant's last run has not ended."""
    starting_deadline_seconds: int | None = Field(default=None, ge=60, le=30 * 86400)
    """A run that has not started so long after its time is given up, whatever it waited for; left out, it waits until
    the next one's time, and that one takes its place in the line."""
    jitter_seconds: int = Field(default=0, ge=0, le=86400)
    """Tenants start spread over so many seconds, each always at the same one; after a time in which no operator ran,
    counted from its end."""
    active_deadline_seconds: int = Field(default=7 * 86400, ge=600, le=90 * 86400)
    """A run that has held its GPUs for so long is cancelled; the time in which it was suspended does not count."""
    max_concurrent_runs: int | None = Field(default=None, ge=1, le=MAX_TENANTS)
    """Runs of this schedule at once; left out, as many as there are tenants."""
    gpu_budget: int | None = Field(default=None, ge=1, le=100_000)
    """GPUs that runs of this schedule may hold at once, counted as their templates say. Leave it out where a
    ClusterQueue of Kueue is the limit."""
    windows: tuple[Window, ...] = Field(default=(), max_length=16)
    """Hours in which runs may start; none for always. What runs goes on after them."""
    successful_runs_history_limit: int = Field(default=3, ge=1, le=100)
    """Succeeded runs kept in each namespace; what a StarDeployment refers to stays besides."""
    failed_runs_history_limit: int = Field(default=1, ge=0, le=100)
    """Failed runs kept in each namespace."""
    suspend: bool = False
    """Start nothing; what runs goes on, and times that pass are not made up for."""
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    """What becomes of the runs when the schedule is deleted."""


class TenantStatus(Model):
    """One namespace: what runs, or why it waits."""

    namespace: str = Field(max_length=63)
    """The tenant's namespace."""
    phase: Phase = Phase.PENDING
    """`Running`, `Waiting`, or how its last run ended."""
    reason: str = Field(default="", max_length=32)
    """Why, as a word."""
    message: str = Field(default="", max_length=MAX_MESSAGE)
    """Why, as a sentence."""
    run: str = Field(default="", max_length=63)
    """Its last run's StarPipeline."""
    gpus: int = 0
    """GPUs that its runs hold."""
    decided: str = ""
    """RFC 3339, UTC: every time of the schedule up to here led to a run, or is known to lead to none."""
    waiting_since: str | None = None
    """RFC 3339, UTC: since when it stands in the line."""
    asked: str | None = None
    """RFC 3339, UTC: when a run outside of the schedule was asked for that has not begun."""
    owed: tuple[str, ...] = Field(default=(), max_length=MAX_OWED)
    """RFC 3339, UTC: times of a back-fill that have not led to a run yet."""
    under_since: str | None = None
    """RFC 3339, UTC: since when the metric of trigger Drift is under its threshold."""


class RunRecord(Model):
    """A run as the schedule made it. What is not recorded here is none, whatever its labels and its name say."""

    namespace: str = Field(max_length=63)
    """Where it is."""
    tick: str
    """RFC 3339, UTC: the time of the schedule that it stands for, from which its name follows."""
    uid: str = Field(default="", max_length=36)
    """metadata.uid of its StarPipeline; empty while it is about to be made."""
    spec: str = Field(default="", max_length=71)
    """Digest of what is about to be made: an operator that dies in between knows its own run by it."""
    gpus: int = 0
    """GPUs that it holds at once."""
    since: str = ""
    """RFC 3339, UTC: since when it holds them, or, where they are given back, since when it wants to go on."""
    set_aside: bool = False
    """It was suspended, or has ended, and has given its GPUs back: it goes on once there is room for it again."""


class RetrainScheduleStatus(Status):
    """What was started, what runs, and who waits for what."""

    last_schedule_time: str | None = None
    """RFC 3339, UTC: the last time of the schedule that has passed."""
    next_schedule_time: str | None = None
    """RFC 3339, UTC: the next one."""
    next_look_time: str | None = None
    """RFC 3339, UTC: when something is to be decided next. What lies behind it for long tells that no operator ran."""
    away_from: str | None = None
    """RFC 3339, UTC: when the last such time began: what fell into it is spread anew from its end."""
    away_until: str | None = None
    """RFC 3339, UTC: when it ended."""
    running: int = 0
    """Runs that have not ended."""
    waiting: int = 0
    """Namespaces whose run is due and has not started."""
    gpus_held: int = 0
    """GPUs that the runs hold."""
    runs: tuple[RunRecord, ...] | None = None
    """The runs that this schedule made and that are still there; tenants cannot write here. Left out by versions that
    kept no records."""
    of_uid: str = Field(default="", max_length=36)
    """metadata.uid of the schedule that the records are of: another one tells that all was restored from a backup."""
    request: str = ""
    """The run-now or back-fill that is being taken down, until its annotation is gone."""
    tenants: tuple[TenantStatus, ...] = Field(
        default=(), max_length=MAX_TENANTS, json_schema_extra=list_map("namespace")
    )
    """A row a namespace."""


class RetrainSchedule(Resource[RetrainScheduleSpec, RetrainScheduleStatus]):
    """Retrains every tenant that opted in: StarPipelines in their namespaces, by the clock, within a budget of GPUs."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "RetrainSchedule",
        "retrainschedules",
        "rts",
        columns=(
            PHASE,
            Column("Schedule", ".spec.schedule"),
            Column("Running", ".status.running", "integer"),
            Column("Waiting", ".status.waiting", "integer"),
            Column("GPUs", ".status.gpusHeld", "integer"),
            Column("Next", ".status.nextScheduleTime"),
            AGE,
            WHY,
        ),
        run_to_completion=False,
        scope=Scope.CLUSTER,
    )
    status: RetrainScheduleStatus = RetrainScheduleStatus()
