"""Conditions: what they mean, and how one is set without losing when it last changed.

Ready     True: the resource produced what it is for (an artifact, a live endpoint). False: not yet, or never; the
          reason and message say why. Positive polarity.
ScaledToZero
          True: a StarDeployment's `server.replicas` is 0, or was and no server answers yet: the gateway holds requests.
          Negative polarity; absent until then.
Failed    True: the run ended without its artifact and will not be tried again. Negative polarity; absent until then.
Attested  A Checkpoint's. True: card, provenance and verdicts are beside it in the store (`status.proofs`). False: not
          yet, or they cannot be written; it is usable all the same. Positive polarity; absent where none are written.
Overridden
          True: a Promotion does, or did, without something that its environment requires, as somebody decided who may.
          Negative polarity; absent otherwise.
Warnings  True: steps of it succeeded with something that a person should know. Negative polarity; absent otherwise.
"""

from star_operator.api.meta import Condition

READY = "Ready"
FAILED = "Failed"
IDLE = "ScaledToZero"
WARNINGS = "Warnings"
ATTESTED = "Attested"
OVERRIDDEN = "Overridden"


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
