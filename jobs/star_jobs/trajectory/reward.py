"""The composite reward (paper 3.4.3, equations 2 and 3), and what a hit is. Pure; used by verl and ms-swift alike."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from star_contracts.settings import Rewards, Variant
from star_jobs.trajectory.format import FormatError, parse, recommended


@dataclass(frozen=True)
class Reward:
    """The two parts of equation 2."""

    format: float
    outcome: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.format + self.outcome


def hit_rank(ranking: Sequence[str], truth: str) -> int | None:
    """Return the 1-based place of the ground truth in a ranking as it was written, or None: a miss at every k.

    Nothing is repaired: repeated and unknown ids keep the places they take.
    """
    return ranking.index(truth) + 1 if truth in ranking else None


def is_permutation(ranking: Sequence[str], candidates: Collection[str]) -> bool:
    """Tell whether a ranking lists every candidate exactly once and nothing else."""
    return len(ranking) == len(candidates) and set(ranking) == set(candidates)


def format_reward(text: str, rewards: Rewards, variant: Variant = Variant.FULL) -> float:
    """Return the reward for form: all phases of the variant are there and every tool call is well-formed."""
    try:
        parse(text, variant)
    except FormatError:
        return rewards.format_invalid
    return rewards.format_valid


def outcome_reward(ranking: Sequence[str], truth: str, rewards: Rewards) -> float:
    """Return the tiered reward for the place of the ground truth (equation 3)."""
    rank = hit_rank(ranking, truth)
    if rank is None or rank > 5:
        return 0.0
    if rank == 1:
        return rewards.top1
    return rewards.top3 if rank <= 3 else rewards.top5


def reward(text: str, truth: str, rewards: Rewards, variant: Variant = Variant.FULL) -> Reward:
    """Judge a whole answer, tool responses included; a faulty form does not hide a hit, as the parts are added up."""
    return Reward(format_reward(text, rewards, variant), outcome_reward(recommended(text), truth, rewards))
