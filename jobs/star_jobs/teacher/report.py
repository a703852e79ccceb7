"""The statistics as a page for people: `statistics.md` of the trajectories artifact, after the paper's Table 3."""

from collections.abc import Iterable, Sequence

from star_contracts.settings import Variant
from star_jobs.teacher.statistics import HitCounts, Statistics

ROWS = {
    Variant.FULL: "SFT-Full",
    Variant.WITHOUT_TOOLS: "SFT-w/o Tool",
    Variant.WITHOUT_PLANNER: "SFT-w/o Planner",
    Variant.WITHOUT_REFLECTOR: "SFT-w/o Reflector",
    Variant.PLANNER_ONLY: "SFT-Planner",
}
"""Table 3's names of what students are trained on; its last row, GRPO, is chosen by the GRPOJob's sampling."""


def render(statistics: Statistics) -> str:
    """Return the page in Markdown."""
    return (
        "\n\n".join(
            [
                "# Trajectories",
                _summary(statistics),
                "## Training samples (paper Table 3)",
                _samples(statistics),
                "## The teacher's hit rates",
                _hit_rates(statistics),
                "## What the agents did",
                _agents(statistics),
            ]
        )
        + "\n"
    )


def _summary(statistics: Statistics) -> str:
    overall, usage = statistics.overall, statistics.usage
    cost = f", cost {statistics.cost:.4g}" if statistics.cost else ""
    calls = f"{_reused(statistics)}{usage.calls} calls"
    return (
        f"{overall.runs} runs of {statistics.model or 'no model'}, {overall.kept} kept, {statistics.refused} refused "
        f"by the endpoint, {statistics.unranked} without a readable ranking, {statistics.repaired} with repairs. "
        f"{calls}: {usage.prompt_tokens} tokens of prompts, {usage.completion_tokens} generated{cost}; "
        f"{statistics.invalid_outputs} of {statistics.outputs} answers did not say what was asked for."
    )


def _reused(statistics: Statistics) -> str:
    if not statistics.saved.calls:
        return ""
    return f"{statistics.reused} taken over from an earlier run, with {statistics.saved.calls} calls not made. "


def _samples(statistics: Statistics) -> str:
    types = list(statistics.by_type)
    rows = []
    for variant, name in ROWS.items():
        counts = statistics.variants[variant]
        of_types = [str(counts.by_type.get(task_type, 0)) for task_type in types]
        rows.append([name, str(counts.trajectories), *of_types, f"{counts.mean_chars:.0f}"])
    return _table(["training task", "samples", *types, "characters an answer"], rows)


def _hit_rates(statistics: Statistics) -> str:
    rows = [_rates(task_type.value, counts) for task_type, counts in statistics.by_type.items()]
    return _table(
        ["task type", "runs", "kept", "HR@1", "HR@3", "HR@5", "mean"], [*rows, _rates("all", statistics.overall)]
    )


def _rates(name: str, counts: HitCounts) -> list[str]:
    rates = (counts.hr1, counts.hr3, counts.hr5, counts.hr_avg)
    return [name, str(counts.runs), str(counts.kept), *(f"{100 * rate:.1f}" for rate in rates)]


def _agents(statistics: Statistics) -> str:
    rows = [
        [name, str(counts.planned), str(counts.revised), str(counts.looked_up)]
        for name, counts in statistics.analysts.items()
    ]
    calls = ", ".join(f"{tool} {count}" for tool, count in statistics.tool_calls.items()) or "none"
    told = (
        f"Reflections: {statistics.approved} approved, {statistics.criticized} asked for revisions. Look-ups: {calls}; "
        f"{statistics.ranking_tool_calls} were the ranking agent's, {statistics.no_signal} had no signal."
    )
    return _table(["analyst", "planned", "revised", "look-ups"], rows) + "\n\n" + told


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
