"""The operator's errors.

StarError
├── InvalidSpec   the resource cannot be acted on as it is; only a change of it helps
├── Waiting       something that others bring is not there yet; looked at again when it changes
├── Terminal      the work failed and would fail again
└── Retryable     the work or the API failed in a way that may pass; tried again with back-off
    ├── Refused   others forbid an API call; the condition tells it meanwhile. Whose it is to mend, its reason says:
    │             QuotaExceeded the namespace's, RightMissing the platform's, Refused a policy's or a webhook's
    └── Taken     others have written fields of ours in an object
"""

from star_operator.core.reasons import AnyReason, ConditionReason


class StarError(Exception):
    """Base of the tree. `reason` is a stable CamelCase word, `message` a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class InvalidSpec(StarError):
    """The resource cannot be acted on as it is: its condition gets the reason."""

    reason: AnyReason

    def __init__(self, reason: AnyReason, message: str) -> None:
        super().__init__(reason, message)


class Waiting(StarError):
    """An input is not there yet: the resource's condition gets the reason."""

    reason: AnyReason

    def __init__(self, reason: AnyReason, message: str) -> None:
        super().__init__(reason, message)


class Terminal(StarError):
    """The work failed and would fail again."""


class Retryable(StarError):
    """The work or an API call failed in a way that may pass."""


class Refused(Retryable):
    """Others forbid an API call, and may come to allow it: the resource's condition gets the reason."""

    reason: ConditionReason

    def __init__(self, reason: ConditionReason, message: str) -> None:
        super().__init__(reason, message)


class Taken(Retryable):
    """Others have written fields of ours in an object: `fields` are their paths, `managers` who it was."""

    def __init__(self, message: str, fields: tuple[str, ...], managers: tuple[str, ...]) -> None:
        super().__init__("Conflict", message)
        self.fields = fields
        self.managers = managers
