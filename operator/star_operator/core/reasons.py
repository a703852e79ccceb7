"""The reasons that a condition can have: stable words for machines.

A job's own errors (`star_contracts.errors.Reason`) become reasons as they are; the rest is here. What each one means
and what to do about it is in `api/remedies.py`, which docs/troubleshooting.md is made of.
"""

from enum import StrEnum
from typing import TypeAlias

from star_contracts.errors import Reason, WarningReason


class ConditionReason(StrEnum):
    """Reasons that the operator gives; it gives some of the jobs' as well."""

    # All is well.
    STARTING = "Starting"
    RUNNING = "Running"
    STEP_DONE = "StepDone"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    QUEUED = "Queued"
    SERVER_STARTING = "ServerStarting"
    GATEWAY_STARTING = "GatewayStarting"
    GATE_RUNNING = "GateRunning"
    ROLLING_OUT = "RollingOut"
    DEGRADED = "Degraded"
    UPDATE_WAITING = "UpdateWaiting"
    UPDATE_HELD = "UpdateHeld"
    UPDATING = "Updating"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    READY = "Ready"
    STAGES_DONE = "StagesDone"
    SELECTED = "Selected"
    DEPLOYING = "Deploying"
    CANCELLING = "Cancelling"
    ATTESTED = "Attested"
    ATTESTING = "Attesting"
    VERIFYING = "Verifying"
    ON_SCHEDULE = "OnSchedule"
    STARTED = "Started"
    NOT_DUE = "NotDue"
    NOTHING_NEW = "NothingNew"
    NOT_DRIFTED = "NotDrifted"
    GOVERNING = "Governing"
    APPROVED = "Approved"
    SOAKING = "Soaking"
    COMMITTING = "Committing"
    PULL_REQUEST_OPEN = "PullRequestOpen"
    CLOSING_PULL_REQUEST = "ClosingPullRequest"
    PROMOTED = "Promoted"
    # It waits.
    WINDOW_CLOSED = "WindowClosed"
    STILL_RUNNING = "StillRunning"
    REPLACING = "Replacing"
    RUN_LIMIT = "RunLimit"
    GPU_BUDGET = "GpuBudget"
    IN_LINE = "InLine"
    PROBING = "Probing"
    DEADLINE_MISSED = "DeadlineMissed"
    FROZEN = "Frozen"
    HELD = "Held"
    NOT_IN_ORDER = "NotInOrder"
    NOT_MEASURED = "NotMeasured"
    AWAITING_APPROVAL = "AwaitingApproval"
    APPROVALS_UNGUARDED = "ApprovalsUnguarded"
    NOT_OBSERVABLE = "NotObservable"
    IN_FLIGHT = "InFlight"
    QUEUE_MISSING = "QueueMissing"
    INPUT_MISSING = "InputMissing"
    INPUT_NOT_READY = "InputNotReady"
    INPUT_FAILED = "InputFailed"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason
    SECRET_INCOMPLETE = "SecretIncomplete"  # noqa: S105 - a reason
    HUB_UNREACHABLE = "HubUnreachable"
    UNSCHEDULABLE = "Unschedulable"
    POD_NOT_STARTED = "PodNotStarted"
    PODS_REFUSED = "PodsRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    RIGHT_MISSING = "RightMissing"
    REFUSED = "Refused"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    NAMESAKE_LEFT = "NamesakeLeft"
    # The spec cannot be acted on.
    INVALID_SPEC = "InvalidSpec"
    INVALID_REFERENCE = "InvalidReference"
    DIGEST_MISMATCH = "DigestMismatch"
    NOT_PINNED = "NotPinned"
    NO_GATES = "NoGates"
    MODEL_NOT_FOUND = "ModelNotFound"
    UNKNOWN_POOL = "UnknownPool"
    NO_IMAGE_VARIANT = "NoImageVariant"
    NOT_A_GROUP = "NotAGroup"
    RESERVED_ENGINE_FLAG = "ReservedEngineFlag"
    FORBIDDEN_ENGINE_FLAG = "ForbiddenEngineFlag"
    FORBIDDEN_ENDPOINT = "ForbiddenEndpoint"
    INVALID_OBJECT = "InvalidObject"
    NAME_TAKEN = "NameTaken"
    NO_SUCH_METRIC = "NoSuchMetric"
    UNKNOWN_STAGE = "UnknownStage"
    IMPOSSIBLE_SCHEDULE = "ImpossibleSchedule"
    UNKNOWN_TIME_ZONE = "UnknownTimeZone"
    BUDGET_TOO_SMALL = "BudgetTooSmall"
    OVERRIDES_INVALID = "OverridesInvalid"
    INVALID_REQUEST = "InvalidRequest"
    TOO_MANY_TENANTS = "TooManyTenants"
    POLICY_CONFLICT = "PolicyConflict"
    ORDER_CYCLE = "OrderCycle"
    NOT_GOVERNED = "NotGoverned"
    # It ran.
    GATE_FAILED = "GateFailed"
    DRIFT_CORRECTED = "DriftCorrected"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESULT_LOST = "ResultLost"
    POD_FAILED = "PodFailed"
    POD_LOST = "PodLost"
    CONTAINER_FAILED = "ContainerFailed"
    JOB_FAILED = "JobFailed"
    STAGE_FAILED = "StageFailed"
    CANCELLED = "Cancelled"
    MOVED_ON = "MovedOn"
    VERDICT_FAILED = "VerdictFailed"
    DATA_TOO_OLD = "DataTooOld"
    OVERRIDDEN = "Overridden"
    SUPERSEDED = "Superseded"
    PULL_REQUEST_CLOSED = "PullRequestClosed"
    NOT_STANDING = "NotStanding"


AnyReason: TypeAlias = ConditionReason | Reason | WarningReason


def of_job(word: str) -> AnyReason:
    """Return the reason that a job's error names; JobFailed for a word that this operator does not know."""
    return Reason(word) if word in set(Reason) else ConditionReason.JOB_FAILED


def known_reason(word: str) -> AnyReason:
    """Return the reason that a condition of one of our resources names; Running for one of another version."""
    for reasons in (ConditionReason, Reason, WarningReason):
        if word in set(reasons):
            return reasons(word)
    return ConditionReason.RUNNING
