"""Figures of an engine's log where they enter: only finite ones pass, and a training that lost its own has diverged.

JSON of Python programs may say NaN and Infinity, and logs write figures as text as well. A weight that has become NaN
stays NaN, so the first loss or gradient that is no number ends a run: whatever it would still make is worth nothing.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure


class Diverged(TerminalFailure):
    """A training whose loss or gradient is not finite any more, seen first at `step` as the engine counts."""

    def __init__(self, engine: str, step: int, name: str, value: float) -> None:
        super().__init__(
            Reason.TRAINING_DIVERGED,
            f"{engine} diverged at step {step} ({name} is {value}); lower hyperparameters.learningRate, "
            "or compute in float32 (hyperparameters.precision), and start anew: nothing of this run is kept",
        )
        self.step = step


def number(value: Any) -> float | None:
    """Return a log's figure, which may be written as text and need not be finite; None for what is not a figure."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number past all floats
        return math.inf
    except (TypeError, ValueError):
        return None


def finite(engine: str, step: int, line: Mapping[str, Any], vital: Iterable[str]) -> dict[str, float]:
    """Return every finite figure of one step's line by its name; others are left out.

    Raises Diverged when one of the `vital` figures is there and not finite.
    """
    figures = {str(name): found for name, value in line.items() if (found := number(value)) is not None}
    for name in vital:
        if not math.isfinite(figures.get(name, 0.0)):
            raise Diverged(engine, step, name, figures[name])
    return {name: value for name, value in figures.items() if math.isfinite(value)}
