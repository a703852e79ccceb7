"""How hard an instance is for the starting checkpoint, and which instances make the RL set (paper A.1). Pure."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from star_contracts.base import Model
from star_contracts.settings import DifficultyMix, DifficultySampling

SAMPLES = "samples.jsonl"
"""The samples artifact's file: one `Instance` a line."""


class Difficulty(StrEnum):
    """How often the starting checkpoint solves an instance; the paper's counts are of 8 responses."""

    UNSOLVED = "unsolved"
    """Never."""
    HARD = "hard"
    """1-2 of 8."""
    MEDIUM = "medium"
    """3-5 of 8."""
    EASY = "easy"
    """6-7 of 8."""
    ALWAYS = "always"
    """Every time."""


class Instance(Model):
    """One line of `samples.jsonl`: a training task, how it went, and whether it is in the RL set."""

    task_id: str
    samples: int
    """Responses sampled."""
    solved: int
    """Those that ranked the ground truth first."""
    well_formed: int = 0
    """Those that kept the format."""
    difficulty: Difficulty
    kept: bool = False


def classify(solved: int, samples: int) -> Difficulty:
    """Return the class of an instance; the paper's bounds of 8 become shares: 2/8 and 5/8."""
    if solved == 0:
        return Difficulty.UNSOLVED
    if solved >= samples:
        return Difficulty.ALWAYS
    share = solved / samples
    if share <= 2 / 8:
        return Difficulty.HARD
    return Difficulty.MEDIUM if share <= 5 / 8 else Difficulty.EASY


def select(instances: Sequence[Instance], sampling: DifficultySampling) -> list[Instance]:
    """Return the instances, in their order, with `kept` set on those of the RL set.

    Each class gives at most its share of `sampling.instances` (3:4:3 by default), so that a plentiful class never
    crowds out a scarce one. With `keep_unsolved` the set is filled up: with what is left of the three classes, then
    with instances never solved, then with those always solved.
    """
    chosen: set[str] = set()
    for difficulty, quota in quotas(sampling.mix, sampling.instances).items():
        chosen.update(i.task_id for i in _of(instances, difficulty)[:quota])
    if sampling.keep_unsolved:
        for difficulty in (*_MIXED, Difficulty.UNSOLVED, Difficulty.ALWAYS):
            left = [i.task_id for i in _of(instances, difficulty) if i.task_id not in chosen]
            chosen.update(left[: max(0, sampling.instances - len(chosen))])
    return [i.model_copy(update={"kept": i.task_id in chosen}) for i in instances]


def quotas(mix: DifficultyMix, total: int) -> dict[Difficulty, int]:
    """Split `total` in the ratio of the mix; what does not divide goes to the largest remainders."""
    weights = dict(zip(_MIXED, (mix.medium, mix.hard, mix.easy), strict=True))
    whole = sum(weights.values())
    if whole == 0:
        return dict.fromkeys(_MIXED, 0)
    shares = {name: total * weight / whole for name, weight in weights.items()}
    floors = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(_MIXED, key=lambda name: floors[name] - shares[name])
    for name in by_remainder[: total - sum(floors.values())]:
        floors[name] += 1
    return floors


def metrics(instances: Sequence[Instance]) -> dict[str, float]:
    """Return the headline figures of the sampling step."""
    counts = Counter(i.difficulty for i in instances)
    found = {difficulty.value: float(counts[difficulty]) for difficulty in Difficulty}
    sampled = sum(i.samples for i in instances)
    return found | {
        "kept": float(sum(i.kept for i in instances)),
        "hitAt1": round(sum(i.solved for i in instances) / sampled, 4) if sampled else 0.0,
        "wellFormed": round(sum(i.well_formed for i in instances) / sampled, 4) if sampled else 0.0,
    }


_MIXED = (Difficulty.MEDIUM, Difficulty.HARD, Difficulty.EASY)


def _of(instances: Sequence[Instance], difficulty: Difficulty) -> list[Instance]:
    return [i for i in instances if i.difficulty is difficulty]
