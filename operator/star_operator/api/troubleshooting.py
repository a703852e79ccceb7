"""docs/troubleshooting.md, generated from `remedies.py`: symptom, cause and remedy of every reason of a condition."""

from star_operator.api.crd import CATEGORY
from star_operator.api.remedies import SECTIONS, Remedy, Section
from star_operator.core.reasons import AnyReason

INTRODUCTION = f"""# Troubleshooting

Generated from `star_operator/api/remedies.py` by `make generate`; do not edit.

    kubectl get {CATEGORY} -o wide

shows the phase of all that there is and, in the column Why, its message; `kubectl describe` of one has its events too.

The condition `Ready` says in one sentence what is wrong and what to do, with the words of whoever knows: the scheduler,
the kubelet, a quota, the store, the job itself. Its `reason` is a stable word; look it up here.
"""


def render() -> str:
    """Return the whole page, the same text every time."""
    return "\n".join([INTRODUCTION, *(_section(section) for section in SECTIONS)])


def _section(section: Section) -> str:
    head = [f"## {section.title}\n", f"{section.introduction}\n", "| symptom | cause | remedy |", "|---|---|---|"]
    return "\n".join([*head, *(_row(*item) for item in section.remedies.items()), ""])


def _row(reason: AnyReason, remedy: Remedy) -> str:
    phases = " or ".join(phase.value for phase in remedy.phases)
    return f"| {phases}, `{reason.value}` | {remedy.cause} | {remedy.remedy} |"
