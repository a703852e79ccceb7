"""How a StarDeployment's recommendations are taken, as its status says it: (status, counts by revision, now) -> status.

Figures are quotients of sums over all gateway processes, of the revision that serves alone: a model that has just taken
over is not judged by its predecessor's. hrK is of the recommendations of which an item was taken, as offline: there,
too, one of the candidates is the one. `ctr` is of all recommendations.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from star_contracts.online import RANKS, WINDOW_SECONDS, OnlineCounts
from star_operator.api.stardeployment import OnlineStatus, StarDeploymentStatus
from star_operator.core.online import KEEP_FRESH_SECONDS
from star_operator.core.times import parse_timestamp, timestamp

PREFIX = "online."
DIGITS = 4
CHANGE = 0.005
"""Figures that differ by less are the same."""
WRITE_SECONDS = 60
"""Changed figures are written no more often."""
STALE_SECONDS = 4 * KEEP_FRESH_SECONDS
"""Figures that were not confirmed for so long say nothing of what serves."""


def figures(counts: OnlineCounts) -> dict[str, float]:
    """Return the metrics that counts give: `online.hr1`, ... and `online.ctr`; none of what was never counted."""
    found: dict[str, float] = {}
    if counts.chosen:
        hits = (counts.hits1, counts.hits3, counts.hits5)
        shares = [hit / counts.chosen for hit in hits]
        found |= {f"{PREFIX}hr{rank}": round(share, DIGITS) for rank, share in zip(RANKS, shares, strict=True)}
        found[f"{PREFIX}hrAvg"] = round(sum(shares) / len(shares), DIGITS)
    if counts.recommendations:
        found[f"{PREFIX}ctr"] = round(min(1.0, counts.chosen / counts.recommendations), DIGITS)
    return found


def with_online(
    status: StarDeploymentStatus, sums: Mapping[str, OnlineCounts] | None, now: datetime
) -> StarDeploymentStatus:
    """Return the status with the figures of what serves, where there is anything new to say of them.

    `sums` is None where nothing is known by now: what was written last stays, with its time.
    """
    serving = next((one.name for one in status.revisions if one.digest == status.serving_digest), None)
    if serving is None:
        return status
    if sums is None:
        return status if status.online is None or status.online.revision == serving else _without(status)
    counts, before = sums.get(serving, OnlineCounts()), status.online
    found = figures(counts)
    if before is not None and before.revision == serving and not _is_due(status, found, counts, now):
        return status
    others = {name: value for name, value in status.metrics.items() if not name.startswith(PREFIX)}
    online = OnlineStatus(
        revision=serving,
        recommendations=counts.recommendations,
        chosen=counts.chosen,
        window_seconds=WINDOW_SECONDS,
        as_of=timestamp(now),
    )
    return status.model_copy(update={"metrics": {**others, **found}, "online": online})


def _without(status: StarDeploymentStatus) -> StarDeploymentStatus:
    """Return the status without figures: those that it has are of what served before."""
    others = {name: value for name, value in status.metrics.items() if not name.startswith(PREFIX)}
    return status.model_copy(update={"metrics": others, "online": None})


def _is_due(status: StarDeploymentStatus, found: Mapping[str, float], counts: OnlineCounts, now: datetime) -> bool:
    assert status.online is not None
    gone = now - parse_timestamp(status.online.as_of)
    if gone < timedelta(seconds=WRITE_SECONDS):
        return False
    before = {name: value for name, value in status.metrics.items() if name.startswith(PREFIX)}
    moved = before.keys() != found.keys() or any(abs(found[name] - before[name]) >= CHANGE for name in found)
    grown = counts.chosen >= 2 * status.online.chosen + 1
    return moved or grown or gone >= timedelta(seconds=KEEP_FRESH_SECONDS)
