"""Figures about a teacher's trajectories: hit rates by task type, what the agents did, what each variant can use."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from star_contracts.base import Model
from star_contracts.data import TaskType, Trajectory, Usage
from star_contracts.settings import Variant
from star_jobs.llm.usage import add_usage, without
from star_jobs.teacher.records import RunRecord
from star_jobs.trajectory.format import ANALYSTS, PLANNER, RECOMMEND, REFLECTION, VariantUnavailable, serialize
from star_jobs.trajectory.tools import NO_SIGNAL

CUTOFFS = (1, 3, 5)


class HitCounts(Model):
    """Hit rates of the teacher over runs; a run without a readable ranking, or refused, is a miss."""

    runs: int
    kept: int
    hr1: float
    hr3: float
    hr5: float
    hr_avg: float


class VariantCounts(Model):
    """What a variant could be trained on (paper Table 3)."""

    trajectories: int
    """Kept trajectories that have all phases of the variant."""
    mean_chars: float
    """Of their answers, tool responses included."""
    by_type: dict[TaskType, int] = {}
    """Of the trajectories."""


class AgentCounts(Model):
    """How often an analyst took part."""

    planned: int
    revised: int
    looked_up: int
    """Tool calls it made."""


class Statistics(Model):
    """The content of `stats.json`."""

    overall: HitCounts
    by_type: dict[TaskType, HitCounts]
    variants: dict[Variant, VariantCounts]
    analysts: dict[str, AgentCounts]
    plans: dict[str, int]
    """Plans chosen, most frequent first."""
    approved: int
    """Reflections that found nothing wrong."""
    criticized: int
    tool_calls: dict[str, int]
    """By tool."""
    ranking_tool_calls: int = 0
    """Of these, the ranking agent's."""
    no_signal: int
    """Tool calls whose key had no signal."""
    look_ups_left_out: int = 0
    """Look-ups that no run was offered, as their ids cannot be written in a tool call."""
    refused: int
    """Runs that the endpoint refused."""
    refusal: str
    """Why, in one of them."""
    unranked: int
    """Runs without a readable ranking."""
    repaired: int
    """Runs whose ranking had ids dropped or put in."""
    outputs: int
    invalid_outputs: int
    """Answers of the model that did not say what was asked for."""
    usage: Usage
    """Calls made, and their tokens."""
    reused: int = 0
    """Trajectories for which none was made, as an earlier run had all answers."""
    saved: Usage = Usage()
    """Calls that were not made, and the tokens they had cost the earlier run."""
    cost: float = 0.0
    """What all tokens cost, by the prices of the endpoints."""
    model_seconds: float
    """Time of all runs added up (`RunRecord.seconds`); they overlapped."""
    model: str
    """The ranking agent's model."""

    def metrics(self) -> dict[str, float]:
        """Return the headline figures."""
        rates = self.overall
        optional = {"cost": self.cost, "lookUpsLeftOut": float(self.look_ups_left_out)}
        return {
            "hrAvg": rates.hr_avg,
            "hr1": rates.hr1,
            "hr3": rates.hr3,
            "hr5": rates.hr5,
            "kept": float(rates.kept),
            "trajectories": float(rates.runs - self.refused),
            "refused": float(self.refused),
            "unranked": float(self.unranked),
            "repaired": float(self.repaired),
            "invalidOutputs": float(self.invalid_outputs),
            "reused": float(self.reused),
            "calls": float(self.usage.calls),
            "callsReused": float(self.saved.calls),
            "promptTokens": float(self.usage.prompt_tokens),
            "completionTokens": float(self.usage.completion_tokens),
        } | {name: value for name, value in optional.items() if value}


@dataclass
class StatisticsBuilder:
    """Adds records up, one at a time, in constant memory."""

    runs: Counter[TaskType] = field(default_factory=Counter)
    kept: Counter[TaskType] = field(default_factory=Counter)
    hits: Counter[tuple[TaskType, int]] = field(default_factory=Counter)
    variants: Counter[tuple[Variant, TaskType]] = field(default_factory=Counter)
    chars: Counter[Variant] = field(default_factory=Counter)
    planned: Counter[str] = field(default_factory=Counter)
    revised: Counter[str] = field(default_factory=Counter)
    looked_up: Counter[str] = field(default_factory=Counter)
    plans: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[bool] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    saved: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cost: float = 0.0
    model: str = ""
    refusal: str = ""

    def add(self, record: RunRecord) -> None:
        """Count one run."""
        self.runs[record.task_type] += 1
        self.totals["outputs"] += record.outputs
        self.totals["invalid"] += record.invalid
        self.totals["repaired"] += record.repaired
        self.totals["left_out"] += record.left_out
        self.totals["unranked"] += record.trajectory is not None and not record.ranked
        self.seconds += record.seconds
        self.cost += record.cost
        if record.trajectory is None:
            self.totals["refused"] += 1
            self.refusal = record.failure
            return
        self.totals["reused"] += record.reused
        self.saved = add_usage(self.saved, record.saved)
        self._add_trajectory(record.task_type, record.trajectory)

    def _add_trajectory(self, task_type: TaskType, trajectory: Trajectory) -> None:
        self.kept[task_type] += trajectory.kept
        self.usage = add_usage(self.usage, trajectory.usage)
        self.model = trajectory.model
        for cutoff in CUTOFFS:
            self.hits[task_type, cutoff] += trajectory.hit_rank is not None and trajectory.hit_rank <= cutoff
        if trajectory.kept:
            self._add_variants(task_type, trajectory)
        for step in trajectory.steps:
            if step.agent == PLANNER:
                self.plans[step.output] += 1
            elif step.agent == REFLECTION:
                self.verdicts["problematic_agent" in step.output] += 1
            elif step.agent in ANALYSTS:
                counted = self.revised if step.revision else self.planned
                counted[step.agent] += 1
            self.looked_up[step.agent] += len(step.tools)
            for exchange in step.tools:
                self.tools[exchange.tool.value] += 1
                self.totals["no_signal"] += exchange.response == NO_SIGNAL

    def _add_variants(self, task_type: TaskType, trajectory: Trajectory) -> None:
        for variant in Variant:
            try:
                segments = serialize(trajectory, variant)
            except VariantUnavailable:
                continue
            self.variants[variant, task_type] += 1
            self.chars[variant] += sum(len(segment.text) for segment in segments)

    def build(self) -> Statistics:
        """Return the figures."""
        return Statistics(
            overall=self._hit_counts(list(self.runs)),
            by_type={task_type: self._hit_counts([task_type]) for task_type in sorted(self.runs)},
            variants={variant: self._variant_counts(variant) for variant in Variant},
            analysts={
                name: AgentCounts(
                    planned=self.planned[name], revised=self.revised[name], looked_up=self.looked_up[name]
                )
                for name in ANALYSTS
            },
            plans=dict(self.plans.most_common()),
            approved=self.verdicts[False],
            criticized=self.verdicts[True],
            tool_calls=dict(sorted(self.tools.items())),
            ranking_tool_calls=self.looked_up[RECOMMEND],
            no_signal=self.totals["no_signal"],
            look_ups_left_out=self.totals["left_out"],
            refused=self.totals["refused"],
            refusal=self.refusal,
            unranked=self.totals["unranked"],
            repaired=self.totals["repaired"],
            outputs=self.totals["outputs"],
            invalid_outputs=self.totals["invalid"],
            usage=without(self.usage, self.saved),
            reused=self.totals["reused"],
            saved=self.saved,
            cost=round(self.cost, 6),
            model_seconds=round(self.seconds, 1),
            model=self.model,
        )

    def _hit_counts(self, types: Iterable[TaskType]) -> HitCounts:
        chosen = list(types)
        runs = sum(self.runs[task_type] for task_type in chosen)
        rates = [sum(self.hits[task_type, k] for task_type in chosen) / runs if runs else 0.0 for k in CUTOFFS]
        return HitCounts(
            runs=runs,
            kept=sum(self.kept[task_type] for task_type in chosen),
            hr1=round(rates[0], 6),
            hr3=round(rates[1], 6),
            hr5=round(rates[2], 6),
            hr_avg=round(sum(rates) / len(rates), 6),
        )

    def _variant_counts(self, variant: Variant) -> VariantCounts:
        by_type = {task_type: self.variants[variant, task_type] for task_type in sorted(self.runs)}
        count = sum(by_type.values())
        mean = round(self.chars[variant] / count, 1) if count else 0.0
        return VariantCounts(trajectories=count, mean_chars=mean, by_type=by_type)
