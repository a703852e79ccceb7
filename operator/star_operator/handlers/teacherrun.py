"""Events of TeacherRuns; what is done about them is in reconcilers/teacherrun.py."""

from typing import Any

import kopf

from star_operator.api.teacherrun import TeacherRun
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(TeacherRun), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(TeacherRun, event)
