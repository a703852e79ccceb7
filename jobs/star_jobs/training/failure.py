"""Name an engine's failure: from its exit status and last lines to one typed error with a sentence for people."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.training.enginelog import WRAPPERS, EngineError, deciding_error, last_words
from star_jobs.training.process import Ended

_MEMORY_ADVICE = (
    "lower hyperparameters.microBatchSize or the maximum lengths, or give compute.resources more memory, then try again"
)
_KILLED = (-9, 137, 247)
_STOPPED = (-15, 143, 241)
"""By signal, as the shell says it, and as `sys.exit(-n)` does in a launcher."""


@dataclass(frozen=True)
class _Cause:
    """A cause that an error's own class or words tell."""

    names: frozenset[str]
    """Classes that mean nothing else."""
    words: re.Pattern[str]
    """What errors say that mean it; those of `_SPEAKERS` alone, as a KeyError may hold any words."""
    failure: Callable[[str, str], JobFailure]
    """(engine, the error's line) -> the failure."""

    def fits(self, error: EngineError) -> bool:
        return error.name in self.names or (error.name in _SPEAKERS and self.words.search(error.line) is not None)


_SPEAKERS = frozenset(
    {
        "",
        "RuntimeError",
        "OSError",
        "BlockingIOError",
        "AcceleratorError",
        "DistBackendError",
        "RaySystemError",
        "SafetensorError",
    }
)
"""Errors that pass on what the system or a device said: the empty name is a process that died without an exception."""

_CAUSES = (
    _Cause(
        frozenset(),
        re.compile(r"shared memory|/dev/shm|</torch_|Bus error", re.IGNORECASE),
        lambda engine, line: RetryableFailure(
            Reason.TRAINER_FAILED,
            f"{engine} ran out of shared memory: {line}; raise shmSize of the pool in the chart's values",
        ),
    ),
    _Cause(
        frozenset({"OutOfDiskError"}),
        re.compile(r"No space left on device|Errno 28\b|Disk quota exceeded|StorageFull|\bcode: 28\b", re.IGNORECASE),
        lambda engine, line: RetryableFailure(
            Reason.OUT_OF_DISK, f"{engine} ran out of disk: {line}; raise compute.resources.scratch"
        ),
    ),
    _Cause(
        frozenset({"OutOfMemoryError", "MemoryError", "_ArrayMemoryError"}),
        re.compile(r"out of memory|(?:can't|cannot) allocate memory|bad_alloc|STATUS_ALLOC_FAILED", re.IGNORECASE),
        lambda engine, line: TerminalFailure(
            Reason.OUT_OF_MEMORY, f"{engine} ran out of memory: {line}; {_MEMORY_ADVICE}"
        ),
    ),
    _Cause(
        frozenset({"SignalException", "KeyboardInterrupt"}),
        re.compile(r"got signal: (?:2|15)\b"),
        lambda engine, line: RetryableFailure(
            Reason.INTERRUPTED, f"{engine} was told to stop ({line}); it resumes from its last checkpoint"
        ),
    ),
)


def classify(engine: str, ended: Ended) -> JobFailure:
    """Return the failure of an engine that did not end well, as the last error of its output says.

    Out of memory is terminal, as the same batch needs the same memory again; a full disk, an interruption and
    everything else are retryable, because a training run can fail on its node alone.
    """
    if ended.interrupted:
        return RetryableFailure(
            Reason.INTERRUPTED, f"{engine} was stopped with its pod; it resumes from its last checkpoint"
        )
    error = deciding_error(ended.tail)
    for link in error.chain if error is not None else ():
        for cause in _CAUSES:
            if cause.fits(link):
                return cause.failure(engine, link.line)
    if ended.returncode in _KILLED or _child_was_killed(error, ended):
        return RetryableFailure(
            Reason.TRAINER_FAILED,
            f"{engine} was killed (signal 9), most likely by the node for its memory; "
            f"if it happens again, {_MEMORY_ADVICE}",
        )
    if ended.returncode in _STOPPED:
        return RetryableFailure(
            Reason.INTERRUPTED, f"{engine} was told to stop (signal 15); it resumes from its last checkpoint"
        )
    return RetryableFailure(
        Reason.TRAINER_FAILED, f"{engine} ended with status {ended.returncode}: {last_words(ended.tail)}"
    )


def _child_was_killed(error: EngineError | None, ended: Ended) -> bool:
    """Tell whether torchrun saw a worker killed, and no worker says anything else."""
    return (error is None or error.name in WRAPPERS) and any("Signal 9 (SIGKILL)" in line for line in ended.tail)
