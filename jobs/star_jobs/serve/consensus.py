"""Several answers to one task -> one ranking (best-of-k in production).

Paper C measures best-of-k with the ground truth in hand, which a live system does not have. What it has is agreement:
valid answers are merged by Borda count (the mean position of each candidate), and the answer closest to the merged
ranking is the one whose reasoning is shown.
"""

from collections.abc import Sequence


def merged(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Merge complete rankings of the same candidates by mean position; ties keep the first ranking's order."""
    first = rankings[0]
    totals = {item: sum(ranking.index(item) for ranking in rankings) for item in first}
    return sorted(first, key=lambda item: totals[item])


def closest(ranking: Sequence[str], rankings: Sequence[Sequence[str]]) -> int:
    """Return the index of the ranking nearest to `ranking` by Spearman's footrule; the earliest of equals."""
    place = {item: position for position, item in enumerate(ranking)}

    def distance(other: Sequence[str]) -> int:
        return sum(abs(place[item] - position) for position, item in enumerate(other))

    return min(range(len(rankings)), key=lambda index: distance(rankings[index]))
