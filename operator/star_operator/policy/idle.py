"""Scale to zero: whether a StarDeployment's gateway has requests wait for a server.

It does while none is wanted, and from then on until one answers again: what scales up (an autoscaler, a person) is told
by the requests that wait, and they are answered by the server that starts for them.
"""

from star_operator.api.meta import Condition
from star_operator.api.stardeployment import StarDeploymentSpec
from star_operator.policy.conditions import IDLE, find, set_condition


def is_idle(spec: StarDeploymentSpec, conditions: tuple[Condition, ...], *, ready: bool) -> bool:
    """Say whether requests wait. `conditions` are those of the last pass; `ready` says that a server answers."""
    if spec.suspend:
        return False
    if spec.server.replicas == 0:
        return True
    before = find(conditions, IDLE)
    return before is not None and before.status == "True" and not ready


def with_idle(
    conditions: tuple[Condition, ...], idle: bool, spec: StarDeploymentSpec, generation: int, now: str
) -> tuple[Condition, ...]:
    """Return the conditions with what was found; none is added where nothing was ever scaled to nothing."""
    if not idle and find(conditions, IDLE) is None:
        return conditions
    reason, message = "ServersAnswer", "servers answer, or are not waited for"
    if idle:
        wanted = "none is wanted" if spec.server.replicas == 0 else "one is starting"
        reason = "NoServers"
        message = f"{wanted}: the gateway holds requests for up to {spec.gateway.deadline_seconds} s"
    new = Condition(type=IDLE, status=str(idle), reason=reason, message=message, observed_generation=generation)
    return set_condition(conditions, new, now)
