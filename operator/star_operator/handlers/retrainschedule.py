"""Events of RetrainSchedules and of namespaces; what is done about them is in reconcilers/retrainschedule.py."""

from typing import Any

import kopf

from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(RetrainSchedule), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(RetrainSchedule, event)


@kopf.on.event("", "v1", "namespaces", registry=REGISTRY)
async def tenants_changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again at the schedules: there may be another tenant."""
    memo.namespace_event(event)
