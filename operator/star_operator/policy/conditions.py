"""Conditions: what they mean, and how one is set without losing when it last changed.

Ready     True: the resource produced what it is for (an artifact, a live endpoint with all of its servers). False: not
          yet, not all of it, or never; the reason and message say why. Positive polarity.
ScaledToZero
          True: a StarDeployment's `server.replicas` is 0, or was and no server answers yet: the gateway holds requests.
          Negative polarity; absent until then.
Outdated  True: a StarDeployment's servers are of an earlier build of the operator or its settings; the reason says
          whether they wait for their turn, are held, or are being replaced. Negative polarity; absent otherwise.
Failed    True: the run ended without its artifact and will not be tried again. Negative polarity; absent until then.
Attested  A Checkpoint's. True: card, provenance and verdicts are beside it in the store (`status.proofs`). False: not
          yet, or they cannot be written; it is usable all the same. Positive polarity; absent where none are written.
Overridden
          True: a Promotion does, or did, without something that its environment requires, as somebody decided who may.
          Negative polarity; absent otherwise.
Warnings  True: steps of it succeeded with something that a person should know. Negative polarity; absent otherwise.
Reconciling
          True: the operator works on it, or waits for something that comes by itself. Negative polarity; absent
          otherwise.
Stalled   True: nothing goes on until a person acts. Negative polarity; absent otherwise.

The last two are those of kstatus, by which Flux, kpt, Argo CD's libraries and `kubectl` plug-ins read any kind:
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md. With status.observedGeneration a
resource is Failed where it is Stalled, InProgress where it is Reconciling, not Ready or not seen yet, else Current.
kstatus has no word for what is suspended: a run and a StarDeployment then are not Ready, so InProgress, since what
waits for their result must not go on; a RetrainSchedule is what was asked for, so Current.
"""

from collections.abc import Set

from star_operator.api.meta import Condition, Phase
from star_operator.core.reasons import AnyReason, ConditionReason

READY = "Ready"
FAILED = "Failed"
IDLE = "ScaledToZero"
OUTDATED = "Outdated"
WARNINGS = "Warnings"
ATTESTED = "Attested"
OVERRIDDEN = "Overridden"
RECONCILING = "Reconciling"
STALLED = "Stalled"

_SETTLED: Set[Phase] = {Phase.SUCCEEDED, Phase.READY, Phase.SUSPENDED}
_STUCK: Set[Phase] = {Phase.FAILED, Phase.GATED, Phase.DEGRADED}
_NEEDS_A_PERSON: Set[AnyReason] = {
    ConditionReason.INPUT_FAILED,
    ConditionReason.INVALID_SPEC,
    ConditionReason.INVALID_REFERENCE,
    ConditionReason.DIGEST_MISMATCH,
    ConditionReason.NO_SUCH_METRIC,
    ConditionReason.UNKNOWN_STAGE,
    ConditionReason.IMPOSSIBLE_SCHEDULE,
    ConditionReason.UNKNOWN_TIME_ZONE,
    ConditionReason.BUDGET_TOO_SMALL,
    ConditionReason.OVERRIDES_INVALID,
    ConditionReason.INVALID_REQUEST,
    ConditionReason.POLICY_CONFLICT,
    ConditionReason.ORDER_CYCLE,
    ConditionReason.NOT_GOVERNED,
}
"""Reasons of resources that are not given up, and yet wait for a person alone."""
_COMES_BY_ITSELF = (Phase.DEGRADED, ConditionReason.DEGRADED)
"""What is degraded waits for a person else; servers start, and are started anew, as a Deployment's pods are."""


def way(phase: Phase, reason: str) -> str | None:
    """Return which of kstatus' conditions holds: Reconciling, Stalled, or none."""
    if phase in _SETTLED:
        return None
    stuck = phase in _STUCK and (phase, reason) != _COMES_BY_ITSELF
    return STALLED if stuck or reason in _NEEDS_A_PERSON else RECONCILING


def set_condition(conditions: tuple[Condition, ...], new: Condition, now: str) -> tuple[Condition, ...]:
    """Return the conditions with `new` in place; its transition time is kept while its status stays the same."""
    old = find(conditions, new.type)
    since = old.last_transition_time if old is not None and old.status == new.status else now
    others = tuple(condition for condition in conditions if condition.type != new.type)
    stamped = new.model_copy(update={"last_transition_time": since})
    return tuple(sorted((*others, stamped), key=lambda condition: condition.type))


def find(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """Return the condition of that type."""
    return next((condition for condition in conditions if condition.type == type_), None)
