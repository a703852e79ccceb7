"""Stable reasons of job errors and warnings: what the jobs that raise them and the operator that shows them share."""

from enum import StrEnum

from pydantic import Field

from star_contracts.base import Model


class Reason(StrEnum):
    """Why a job failed. The comment says the class each one has by default."""

    STORE_UNREACHABLE = "StoreUnreachable"  # retryable
    STORE_ACCESS_DENIED = "StoreAccessDenied"  # terminal: wrong keys, or a right that is missing
    STORE_CREDENTIALS_EXPIRED = "StoreCredentialsExpired"  # retryable: the next pods read the Secret anew
    STORE_CLOCK_SKEWED = "StoreClockSkewed"  # retryable
    STORE_FULL = "StoreFull"  # retryable
    STORE_MISCONFIGURED = "StoreMisconfigured"  # terminal: endpoint, region, bucket or certificate authority
    STORE_REFUSED = "StoreRefused"  # terminal: the store will not do this to this object
    SOURCE_CHANGED = "SourceChanged"  # retryable while it is read; terminal when it is not the pinned one
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"  # terminal
    ARTIFACT_CORRUPTED = "ArtifactCorrupted"  # terminal
    BEING_DELETED = "BeingDeleted"  # retryable: what was let go is gone in a moment
    INVALID_JOB_SPEC = "InvalidJobSpec"  # terminal
    INVALID_DATASET = "InvalidDataset"  # terminal
    INVALID_MODEL = "InvalidModel"  # terminal
    INVALID_KEY = "InvalidKey"  # terminal: a key that proofs are signed or checked with
    PROOF_MISSING = "ProofMissing"  # terminal: no signature where one is required
    PROOF_ALTERED = "ProofAltered"  # terminal: a signature, statement or card is not what its digest says
    SIGNATURE_FOREIGN = "SignatureForeign"  # terminal: signed, and by none of the keys that are named
    VERDICT_NOT_BOUND = "VerdictNotBound"  # terminal: a report measured something else, or its status was edited
    LLM_UNREACHABLE = "LLMUnreachable"  # retryable
    LLM_ACCESS_DENIED = "LLMAccessDenied"  # terminal
    LLM_OUTPUT_INVALID = "LLMOutputInvalid"  # terminal: the model returned nothing usable
    NOT_COMPARABLE = "NotComparable"  # terminal: an evaluation to compare with measured other tasks
    TOKEN_BUDGET_SPENT = "TokenBudgetSpent"  # noqa: S105 - terminal: the budget is all that the user would pay
    NOTHING_KEPT = "NothingKept"  # terminal: no trajectory passed the filter
    NOTHING_TO_TRAIN_ON = "NothingToTrainOn"  # terminal
    TRAINER_FAILED = "TrainerFailed"  # retryable
    TRAINING_DIVERGED = "TrainingDiverged"  # terminal: the same settings diverge again
    OUT_OF_MEMORY = "OutOfMemory"  # terminal: the same batch needs the same memory again
    OUT_OF_DISK = "OutOfDisk"  # retryable
    PROOF_DIFFERS = (
        "ProofDiffers"  # terminal: a report is of another checkpoint, dataset or settings, or has other figures
    )
    PLACE_NOT_FOUND = "PlaceNotFound"  # terminal: the file, document, field or marker of a promotion's target
    PLACE_REFUSED = "PlaceRefused"  # terminal: a file that is there and cannot be edited safely
    PROMOTION_CONFLICT = "PromotionConflict"  # terminal: somebody else has changed the same place meanwhile
    BRANCH_MOVING = "BranchMoving"  # retryable: others push to it faster than it is fetched
    GIT_UNREACHABLE = "GitUnreachable"  # retryable
    GIT_ACCESS_DENIED = "GitAccessDenied"  # terminal: wrong or missing credentials, or no right to push
    GIT_HOST_UNVERIFIED = "GitHostUnverified"  # terminal: a host key or certificate that is not known
    GIT_REFUSED = "GitRefused"  # terminal: no such repository or branch, a protected branch, a hook of the server
    GIT_TOO_LARGE = "GitTooLarge"  # terminal: the repository exceeds the limits
    SIGNING_FAILED = "SigningFailed"  # terminal: no usable key
    FORGE_UNREACHABLE = "ForgeUnreachable"  # retryable: no answer, 5xx, or a rate limit
    FORGE_ACCESS_DENIED = "ForgeAccessDenied"  # terminal
    FORGE_REFUSED = "ForgeRefused"  # terminal: the forge's own sentence says why
    INTERRUPTED = "Interrupted"  # retryable: SIGTERM from the kubelet
    INTERNAL = "InternalError"  # retryable


class WarningReason(StrEnum):
    """What a job that succeeded warns of; becomes the reason of the condition `Warnings`."""

    DATA_LEFT_OUT = "DataLeftOut"  # lines, task files or users of a source that cannot be used
    DATA_IMPLAUSIBLE = "DataImplausible"  # values of a source that are taken, and can hardly be right
    LOOK_UPS_LEFT_OUT = "LookUpsLeftOut"  # ids that cannot be written in a tool call
    PREVIOUS_GONE = "PreviousGone"  # the earlier run that entries were to be taken over from


class JobWarning(Model):
    """What a person should know of an artifact that was made nevertheless."""

    reason: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{2,63}$")
    """A stable CamelCase word for machines."""
    message: str
    """For people: which file or input, what is odd about it, what to do. Never a secret."""
