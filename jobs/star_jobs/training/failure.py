"""Name an engine's failure: from its exit status and last lines to one typed error with a sentence for people."""

import re
from collections.abc import Sequence

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.training.process import Ended

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc|MemoryError\b",
    re.IGNORECASE,
)
_OUT_OF_DISK = re.compile(r"No space left on device|Errno 28|OutOfDiskError", re.IGNORECASE)
_ERROR_LINE = re.compile(r"(?:^|[\s.:)])(?:[A-Za-z_]+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Failure)\b.*")
_PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*m|\((?:[A-Za-z]\w*[^)]*pid=\d+[^)]*)\)|\[(?:rank)?\d+\]:|\s)+")
_KILLED = (-9, 137)
_LINE_LIMIT = 400

_MEMORY_ADVICE = (
    "lower hyperparameters.microBatchSize or the maximum lengths, or give compute.resources more memory, then try again"
)


def classify(engine: str, ended: Ended) -> JobFailure:
    """Return the failure of an engine that did not end well.

    Out of memory is terminal, as the same batch needs the same memory again; a full disk, an interruption and
    everything else are retryable, because a training run can fail on its node alone.
    """
    if ended.interrupted:
        return RetryableFailure(
            Reason.INTERRUPTED, f"{engine} was stopped with its pod; it resumes from its last checkpoint"
        )
    text = "\n".join(ended.tail)
    line = last_meaningful_line(ended.tail)
    if _OUT_OF_DISK.search(text):
        return RetryableFailure(
            Reason.OUT_OF_DISK, f"{engine} ran out of disk: {line}; raise compute.resources.scratch"
        )
    if _OUT_OF_MEMORY.search(text):
        return TerminalFailure(Reason.OUT_OF_MEMORY, f"{engine} ran out of memory: {line}; {_MEMORY_ADVICE}")
    if ended.returncode in _KILLED:
        return RetryableFailure(
            Reason.TRAINER_FAILED,
            f"{engine} was killed (signal 9), most likely by the node for its memory; "
            f"if it happens again, {_MEMORY_ADVICE}",
        )
    return RetryableFailure(Reason.TRAINER_FAILED, f"{engine} ended with status {ended.returncode}: {line}")


def last_meaningful_line(tail: Sequence[str]) -> str:
    """Return the last line that names an exception, or else the last line with words in it."""
    lines = [cleaned for line in tail if (cleaned := _PREFIX.sub("", line).strip())]
    named = [line for line in lines if _ERROR_LINE.search(line) and not line.startswith("File ")]
    worded = [line for line in lines if re.search(r"[A-Za-z]{3}", line)]
    chosen = (named or worded or ["it printed nothing"])[-1]
    return chosen if len(chosen) <= _LINE_LIMIT else chosen[: _LINE_LIMIT - 1] + "…"
