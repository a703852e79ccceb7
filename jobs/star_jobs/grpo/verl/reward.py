"""The reward as verl calls it (`reward.custom_reward_function`): the same judgement as everywhere else."""

from typing import Any

from star_contracts.settings import Rewards, Variant
from star_jobs.trajectory.format import recommended
from star_jobs.trajectory.reward import hit_rank, reward


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **rewards: float
) -> dict[str, float]:
    """Judge one rollout (paper equations 2 and 3).

    `data_source` is the variant of the student, `solution_str` its whole answer with the tool responses in it,
    `ground_truth` an item id, and `rewards` the fields of `Rewards`. Returns `score` and its parts, for the metrics.
    """
    judged = reward(solution_str, ground_truth, Rewards(**rewards), Variant(data_source))
    return {
        "score": judged.total,
        "format": judged.format,
        "outcome": judged.outcome,
        "hit": float(hit_rank(recommended(solution_str), ground_truth) == 1),
    }
