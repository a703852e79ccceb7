"""Events of PromotionPolicies; what is done about them is in reconcilers/promotionpolicy.py."""

from typing import Any

import kopf

from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.handlers.intake import REGISTRY, Intake, here


@kopf.on.event(*here(PromotionPolicy), registry=REGISTRY)
async def changed(event: Any, memo: Intake, **_: Any) -> None:
    """Look again."""
    memo.resource_event(PromotionPolicy, event)
