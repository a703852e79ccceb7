"""Events of what resources own: Jobs, pods and servers have their resource looked at again."""

from typing import Any

import kopf

from star_operator.core.labels import OURS
from star_operator.handlers.intake import REGISTRY, Intake


@kopf.on.event("batch", "v1", "jobs", labels=OURS, registry=REGISTRY)
@kopf.on.event("", "v1", "pods", labels=OURS, registry=REGISTRY)
@kopf.on.event("", "v1", "services", labels=OURS, registry=REGISTRY)
@kopf.on.event("apps", "v1", "deployments", labels=OURS, registry=REGISTRY)
@kopf.on.event("apps", "v1", "statefulsets", labels=OURS, registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again at the resource this belongs to."""
    memo.child_event(event)
