"""What a deployment's status says of a metric, and whether that says anything: (drift, deployment, now) -> value."""

from typing import Any

from pydantic import ValidationError

from star_operator.api.retrainschedule import Drift
from star_operator.api.stardeployment import StarDeployment, StarDeploymentStatus
from star_operator.core.objects import KubeObject
from star_operator.core.times import of_seconds, to_seconds
from star_operator.policy.online import PREFIX, STALE_SECONDS


def measured(drift: Drift, body: KubeObject | None, now: int) -> float | str:
    """Return the metric, or why it cannot be known: the end of a sentence that begins with the deployment's name."""
    if body is None:
        return "does not exist yet"
    try:
        status: Any = StarDeployment.parse_status(body)
    except ValidationError:
        return "has a status of another version"
    value = status.metrics.get(drift.metric)
    if not drift.metric.startswith(PREFIX):
        return f"has no metric {drift.metric} in its status" if value is None else float(value)
    return _online(drift, status, value, now)


def _online(drift: Drift, status: StarDeploymentStatus, value: float | None, now: int) -> float | str:
    online = status.online
    if online is None or value is None:
        return f"has no {drift.metric} yet: no feedback has come in on what serves (POST /v1/feedback)"
    if now - to_seconds(online.as_of) > STALE_SECONDS:
        return f"has {drift.metric} of {online.as_of}: its gateways do not report since (now {of_seconds(now)})"
    if online.chosen < drift.min_chosen:
        text = f"has feedback on {online.chosen} recommendations"
        return f"{text}, fewer than spec.trigger.drift.minChosen ({drift.min_chosen})"
    return value
