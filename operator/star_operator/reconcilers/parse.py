"""A resource as its model, or a condition that says why it does not fit."""

from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from star_operator.api.meta import Phase, Resource
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.policy.status import Moment, is_finished, seen_again, told
from star_operator.reconcilers.write import write_status

log = structlog.get_logger(__name__)

ResourceT = TypeVar("ResourceT", bound=Resource[Any, Any])
SHOWN = 5
"""Faults named in one condition."""


async def parse_or_tell(cluster: Cluster, model: type[ResourceT], body: KubeObject, at: Moment) -> ResourceT | None:
    """Return the resource, or None when its spec does not fit the model, which its condition then says.

    Admission should have prevented it: the CRDs are of another version than this operator.
    """
    try:
        return model.parse(body)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:SHOWN]]
        text = f"it does not fit this operator's version: {'; '.join(faults)}; apply the CRDs of this version"
        log.error("resource does not fit its model", kind=model.INFO.kind, name=body["metadata"]["name"], faults=faults)
        before = model.parse_status(body)
        ended = is_finished(before)  # it stays as it ended, whatever this operator makes of its spec
        invalid = ConditionReason.INVALID_SPEC
        status = seen_again(before, at) if ended else told(before, at, Phase.WAITING, invalid, text)
        await write_status(cluster, body, status, at.now)
        return None
