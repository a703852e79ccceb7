"""The jobs' error tree.

    JobFailure                  a typed end of a job: a stable reason and a sentence for people
    ├── TerminalFailure         the same input fails again: exit 65, the operator does not retry
    │     INVALID_JOB_SPEC, INVALID_DATASET, INVALID_MODEL, ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPTED,
    │     STORE_ACCESS_DENIED, STORE_MISCONFIGURED, STORE_REFUSED, LLM_ACCESS_DENIED, LLM_OUTPUT_INVALID,
    │     NOTHING_KEPT, NOTHING_TO_TRAIN_ON, TRAINING_DIVERGED, OUT_OF_MEMORY
    └── RetryableFailure        running again can help: exit 75
          STORE_UNREACHABLE, STORE_CLOCK_SKEWED, STORE_CREDENTIALS_EXPIRED, STORE_FULL, SOURCE_CHANGED,
          BEING_DELETED, LLM_UNREACHABLE, TRAINER_FAILED, OUT_OF_DISK, INTERRUPTED, INTERNAL

What a store's answer becomes stands in `star_jobs/storage/faults.py`.

Anything else that escapes a stage is turned into one of these by `as_failure`.
"""

import errno
from typing import ClassVar

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass, JobError


class JobFailure(Exception):
    """A typed end of a job. Raise one of its two subclasses.

    `message` is one sentence for a person: which field or input, what was wrong, what to do. Never a secret.
    """

    error_class: ClassVar[ErrorClass] = ErrorClass.RETRYABLE

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        # What it quotes may be half an emoji, which no JSON can carry.
        self.message = message.encode(errors="backslashreplace").decode()

    def to_error(self) -> JobError:
        """Return the wire form for the termination message."""
        return JobError(error_class=self.error_class, reason=self.reason.value, message=self.message)


class TerminalFailure(JobFailure):
    """The same work with the same inputs would fail again."""

    error_class = ErrorClass.TERMINAL


class RetryableFailure(JobFailure):
    """Running the same work again can help."""

    error_class = ErrorClass.RETRYABLE


def as_failure(error: BaseException) -> JobFailure:
    """Turn whatever escaped a stage into a typed failure.

    A full disk becomes OutOfDisk, wherever in the chain of causes it stands; the unforeseen becomes InternalError,
    which is retryable, as a new pod on another node may do better.
    """
    if isinstance(error, JobFailure):
        return error
    if _is_out_of_disk(error):
        return RetryableFailure(
            Reason.OUT_OF_DISK,
            "the pod's disk is full (no space left on device): give the stage more room "
            "(compute.resources.scratch) or a smaller input",
        )
    if isinstance(error, MemoryError):
        return RetryableFailure(
            Reason.OUT_OF_MEMORY, "the job ran out of memory: raise compute.resources.memoryLimit of this stage"
        )
    detail = " ".join(str(error).split())[:500]
    return RetryableFailure(
        Reason.INTERNAL, f"unexpected {type(error).__name__}: {detail}; the pod's log has the trace"
    )


def _is_out_of_disk(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False
