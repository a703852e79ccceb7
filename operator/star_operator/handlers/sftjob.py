"""Events of SFTJobs; what is done about them is in reconcilers/sftjob.py."""

from typing import Any

import kopf

from star_operator.api.sftjob import SFTJob
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(SFTJob), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(SFTJob, event)
