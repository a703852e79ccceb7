"""Whose turn it is to have its servers moved to the present build: as the StarDeployments' conditions say.

The conditions are read from the cache by their reason, so that a pass costs as much as there are deployments that move.
Who gets the turn is kept in memory until its condition is written, as other passes go on meanwhile.
"""

from star_operator.api.stardeployment import StarDeployment, StarDeploymentStatus
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import parse_timestamp
from star_operator.kube.indexes import OUTDATED as BY_REASON
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.builds import SETTLE, Line, Standing, Turn, turn
from star_operator.policy.conditions import OUTDATED, find
from star_operator.reconcilers.context import Context


async def take_turn(context: Context, resource: StarDeployment, standing: Standing) -> Turn:
    """Return whether it is the deployment's turn, and wake who is next where it leaves the line."""
    meta, now = resource.metadata, context.now()
    key = Key(resource.kind, meta.namespace, meta.name)
    said = find(resource.status.conditions, OUTDATED)
    before = ConditionReason(said.reason) if said is not None else None
    since = parse_timestamp(said.last_transition_time) if said is not None else now
    line = await _line(context, key, standing)
    found = turn(standing, before, since, line, now)
    if found.reason is ConditionReason.UPDATING:
        context.updating.add(key)
    else:
        context.updating.discard(key)
    if found.reason is ConditionReason.UPDATE_WAITING:
        left = (since + SETTLE - now).total_seconds()
        if left > 0:
            context.queue.add_after(key, left)
    elif before is not None and found.reason is not before:
        for one in (await _with(context, ConditionReason.UPDATE_WAITING))[: context.settings.server_updates + 1]:
            context.queue.add(one)
    return found


def give_back(context: Context, resource: StarDeployment) -> StarDeploymentStatus:
    """Return the status of a deployment that cannot be looked after as it is: it holds up nobody else."""
    context.updating.discard(Key(resource.kind, resource.metadata.namespace, resource.metadata.name))
    conditions = tuple(one for one in resource.status.conditions if one.type != OUTDATED)
    return resource.status.model_copy(update={"conditions": conditions})


async def _line(context: Context, key: Key, standing: Standing) -> Line:
    at_once = context.settings.server_updates
    if not standing.behind:
        return Line(at_once, (), first=False)
    told = await _with(context, ConditionReason.UPDATING)
    free = len({*told, *context.updating} - {key}) < at_once
    waiting = await _with(context, ConditionReason.UPDATE_WAITING) if free else []
    moving = {*told, *context.updating} - {key}  # the last to be read: nobody gets a turn from here to its decision
    return Line(at_once, sorted(f"{one.namespace}/{one.name}" for one in moving), first=waiting[:1] == [key])


async def _with(context: Context, reason: ConditionReason) -> list[Key]:
    """Return the deployments whose condition has that reason, in the order of namespace and name."""
    rtype = STAR_TYPES[StarDeployment.INFO.kind]
    found = await context.cluster.list_by(rtype, None, BY_REASON, reason)
    places = sorted((one["metadata"]["namespace"], one["metadata"]["name"]) for one in found)
    return [Key(rtype.kind, namespace, name) for namespace, name in places]
