"""What a schedule's decisions are made of, and what they are. All times are Unix seconds (int)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from star_operator.core.reasons import ConditionReason


class News(StrEnum):
    """Whether there is what the trigger asks for."""

    YES = "Yes"
    NO = "No"
    UNKNOWN = "Unknown"
    """It is being looked at."""


@dataclass(frozen=True)
class Tenant:
    """A namespace that takes part."""

    namespace: str
    uid: str
    priority: int = 1
    gpus: int = 0
    """GPUs that a run of it holds at once."""
    fault: str = ""
    """Why no run can be made."""
    fault_reason: ConditionReason = ConditionReason.OVERRIDES_INVALID
    news: News = News.YES
    detail: str = ""
    """What is looked at, or why it cannot be known."""


@dataclass(frozen=True)
class Run:
    """A run of this schedule that is there, proven by its UID (policy/schedule/proof.py)."""

    namespace: str
    name: str
    tick: int
    gpus: int
    live: bool = True
    """It has not ended."""
    cancelling: bool = False
    holds: bool = True
    """It takes its place among the runs and its GPUs, as long as it lives."""
    leaving: bool = False
    """It has ended, and holds its place until that is written down: a retry in between would hold it as well."""
    resumes: int | None = None
    """Since when it wants to go on, where it has given its place back; None where it does not."""
    lapses: int | None = None
    """When it is to be looked at because it has held its place for long."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of a tenant."""

    decided: int
    """All ticks up to here led to a run, or are known to lead to none."""
    since: int | None = None
    """Since when its claim ages."""
    asked: int | None = None
    """When a run outside of the schedule was asked for that has not begun."""
    owed: tuple[int, ...] = ()
    """Ticks of a back-fill that have not led to a run yet."""


@dataclass(frozen=True)
class Memory:
    """What is remembered."""

    tenants: Mapping[str, Remembered] = field(default_factory=dict)
    next_look: int | None = None
    down: tuple[int, int] | None = None
    """The last time in which no operator ran, from when it was to look until it did."""


class Start(NamedTuple):
    """A run to make."""

    namespace: str
    tick: int
    gpus: int


class Wait(NamedTuple):
    """Why a tenant that a tick is meant for does not start."""

    namespace: str
    reason: ConditionReason
    tick: int
    until: int | None = None
    """When that changes, where the clock alone tells."""
    detail: str = ""
    figures: tuple[int, ...] = ()
    """What the reason's sentence needs, in its order (policy/schedule/texts.py)."""


@dataclass(frozen=True)
class Decision:
    """What to do, what to say, and what to remember."""

    starts: tuple[Start, ...]
    cancels: tuple[Run, ...]
    """Runs that make room for their successors."""
    waits: tuple[Wait, ...]
    memory: Memory
    resumes: tuple[Run, ...]
    """Runs that take their place again."""
    last_tick: int | None
    next_tick: int | None
