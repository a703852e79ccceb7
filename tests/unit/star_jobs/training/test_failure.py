"""What a failed engine is called."""

import pytest

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass
from star_jobs.training.failure import classify, last_meaningful_line
from star_jobs.training.process import Ended

TRACE = ["Traceback (most recent call last):", '  File "x.py", line 3, in f', "    g()"]


@pytest.mark.parametrize(
    ("lines", "status", "reason", "error_class", "said"),
    [
        ([*TRACE, "ValueError: bad shape"], 1, Reason.TRAINER_FAILED, ErrorClass.RETRYABLE, "ValueError: bad shape"),
        (
            [*TRACE, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"],
            1,
            Reason.OUT_OF_MEMORY,
            ErrorClass.TERMINAL,
            "microBatchSize",
        ),
        (
            ["RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"],
            1,
            Reason.OUT_OF_MEMORY,
            ErrorClass.TERMINAL,
            "memory",
        ),
        (["OSError: [Errno 28] No space left on device"], 1, Reason.OUT_OF_DISK, ErrorClass.RETRYABLE, "scratch"),
        (["step 3"], -9, Reason.TRAINER_FAILED, ErrorClass.RETRYABLE, "killed"),
        ([], 2, Reason.TRAINER_FAILED, ErrorClass.RETRYABLE, "it printed nothing"),
    ],
)
def test_classification(lines: list[str], status: int, reason: Reason, error_class: ErrorClass, said: str) -> None:
    failure = classify("ms-swift", Ended(status, tuple(lines)))
    assert failure.reason is reason
    assert failure.error_class is error_class
    assert said in failure.message
    assert failure.message.startswith("ms-swift ")


def test_interruption_is_retryable() -> None:
    failure = classify("verl", Ended(-15, ("x",), interrupted=True))
    assert (failure.reason, failure.error_class) == (Reason.INTERRUPTED, ErrorClass.RETRYABLE)


def test_the_line_that_names_an_exception_wins_over_what_follows_it() -> None:
    ray = "\x1b[36m(TaskRunner pid=12, ip=1.2.3.4)\x1b[0m "
    lines = [
        *TRACE,
        f"{ray}ray.exceptions.RayTaskError(KeyError): ray::f()",
        f"{ray}KeyError: 'lm_head'",
        "",
        "bye now",
    ]
    assert last_meaningful_line(lines) == "KeyError: 'lm_head'"


def test_long_lines_are_cut() -> None:
    assert len(last_meaningful_line(["ValueError: " + "x" * 5000])) == 400
