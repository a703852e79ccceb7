"""What a failed engine is called: the last error of its output decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass
from star_jobs.training.enginelog import last_words
from star_jobs.training.failure import classify
from star_jobs.training.process import Ended

TRACE = ["Traceback (most recent call last):", '  File "x.py", line 3, in f', "    g()"]
RAY = "\x1b[36m(TaskRunner pid=12, ip=1.2.3.4)\x1b[0m "
STEP = "{'loss': '1.19', 'grad_norm': '0.8', 'memory(GiB)': 71.3, 'global_step/max_steps': '4/8'}"
WARNINGS = [
    "huggingface/tokenizers: The current process just got forked, after parallelism has already been used. Disabling "
    "parallelism to avoid running out of memory or deadlocks...",
    "[WARNING:swift] gradient_checkpointing is off, which costs memory: OutOfMemoryError may follow",
    "/usr/lib/python3.11/site-packages/torch/x.py:12: UserWarning: CUDA out of memory is likely with this batch size",
    "2026-11-28 10:00:00 WARNING loader: caught MemoryError: cannot allocate memory, retrying with less",
]
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 139.80 GiB in all"
NODE_LOST = [
    "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.",
    "\tclass_name: WorkerDict",
    "The actor is dead because its node has died. Node Id: 5f. There are some potential root causes. (1) The process "
    "is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called.",
]
CHILD_FAILED = [
    *TRACE,
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    "============================================================",
    "cli/sft.py FAILED",
    "Root Cause (first observed failure):",
    "[0]:",
    "  rank      : 3 (local_rank: 3)",
    "  exitcode  : 1 (pid: 71)",
    "  error_file: <N/A>",
]
NCCL = [
    "[rank1]:[E1128 10:00:00 ProcessGroupNCCL.cpp:616] [Rank 1] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=7, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600011 milliseconds before timing out.",
    "terminate called after throwing an instance of 'c10::DistBackendError'",
    "  what():  [PG ID 0 PG GUID 0 Rank 1] Process group watchdog thread terminated with exception: NCCL timeout",
]

MEMORY, DISK, LOST, STOPPED = Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK, Reason.TRAINER_FAILED, Reason.INTERRUPTED

ENDS: dict[str, tuple[list[str], int, Reason, str]] = {
    "an exception": ([*TRACE, "ValueError: bad shape"], 1, LOST, "ValueError: bad shape"),
    "CUDA": ([*WARNINGS, *TRACE, OOM], 1, MEMORY, "microBatchSize"),
    "CUDA, under torchrun": ([*(f"[rank3]: {line}" for line in [*TRACE, OOM]), *CHILD_FAILED], 1, MEMORY, "139.80 GiB"),
    "CUDA, and its peers complain": ([*TRACE, OOM, *NCCL], 1, MEMORY, "CUDA out of memory"),
    "CUDA, raised on": (
        [
            *TRACE,
            OOM,
            "",
            "The above exception was the direct cause of the following exception:",
            "",
            *TRACE,
            "RuntimeError: the rollout failed",
        ],
        1,
        MEMORY,
        "CUDA out of memory",
    ),
    "CUDA, handled": (
        [
            *TRACE,
            OOM,
            "",
            "During handling of the above exception, another exception occurred:",
            "",
            *TRACE,
            "AttributeError: no fallback",
        ],
        1,
        LOST,
        "AttributeError: no fallback",
    ),
    "CUDA, survived": ([*TRACE, OOM, STEP, *TRACE, "ConnectionError: node lost"], 1, LOST, "node lost"),
    "CUDA, survived, then a peer is gone": (
        [*TRACE, OOM, STEP, *TRACE, "ConnectionResetError: [Errno 104] Connection reset by peer"],
        1,
        LOST,
        "Connection reset",
    ),
    "a device's own words": ([*TRACE, "RuntimeError: CUDA error: out of memory"], 1, MEMORY, "CUDA error"),
    "a CPU": (
        ["RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"],
        1,
        MEMORY,
        "memory",
    ),
    "numpy": (
        [*TRACE, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9. GiB for an array"],
        1,
        MEMORY,
        "9. GiB",
    ),
    "fork": ([*TRACE, "OSError: [Errno 12] Cannot allocate memory"], 1, MEMORY, "Errno 12"),
    "C++": (
        ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"],
        -6,
        MEMORY,
        "bad_alloc",
    ),
    "Ray's memory monitor": (
        [
            f"{RAY}{TRACE[0]}",
            f"{RAY}{TRACE[1]}",
            f"{RAY}ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
            "Memory on the node (IP: 1.2.3.4) where the task was running was 61.2GB / 64GB (0.956)",
        ],
        1,
        MEMORY,
        "running low on memory",
    ),
    "the kernel": ([*WARNINGS, STEP], -9, LOST, "killed"),
    "the kernel, as a shell says it": ([*WARNINGS, STEP], 137, LOST, "killed"),
    "the kernel, as a launcher passes it on": ([STEP], 247, LOST, "killed"),
    "the kernel, as torchrun saw it": (
        [*CHILD_FAILED, "  traceback : Signal 9 (SIGKILL) received by PID 71"],
        1,
        LOST,
        "killed",
    ),
    "a node": ([*WARNINGS, STEP, *TRACE, *NODE_LOST], 1, LOST, "ActorDiedError"),
    "a node, in Ray's wrapper": (
        [*WARNINGS, *TRACE, "ray.exceptions.RayTaskError(ActorDiedError): ray::run()", *TRACE[1:], *NODE_LOST],
        1,
        LOST,
        "ActorDiedError",
    ),
    "a node, and nobody says so": ([*WARNINGS, "bye"], 1, LOST, "bye"),
    "NCCL": ([*WARNINGS, *NCCL], -6, LOST, "NCCL timeout"),
    "a disk": ([*TRACE, "OSError: [Errno 28] No space left on device: '/work/x'"], 1, DISK, "scratch"),
    "a quota": ([*TRACE, "OSError: [Errno 122] Disk quota exceeded"], 1, DISK, "scratch"),
    "safetensors' disk": (
        [*TRACE, "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device"],
        1,
        DISK,
        "scratch",
    ),
    "a disk, survived": (
        ["OSError: [Errno 28] No space left on device", STEP, *TRACE, "KeyError: 'x'"],
        1,
        LOST,
        "KeyError: 'x'",
    ),
    "a disk, handled": (
        ["WARNING cache: OSError: [Errno 28] No space left on device", *TRACE, "KeyError: 'x'"],
        1,
        LOST,
        "KeyError: 'x'",
    ),
    "shared memory": (
        [
            *TRACE,
            "RuntimeError: DataLoader worker is killed by signal: Bus error. It is possible that dataloader's ",
            "workers are out of shared memory.",
        ],
        1,
        LOST,
        "shmSize",
    ),
    "a key that speaks of memory": ([*TRACE, "KeyError: 'CUDA out of memory'"], 1, LOST, "KeyError"),
    "a title that speaks of memory": (
        [*TRACE, "ValueError: title 'Out of Memory' has no year; No space left on device"],
        1,
        LOST,
        "ValueError",
    ),
    "a line of source": (
        [*TRACE[:2], "    raise RuntimeError('CUDA out of memory')", "KeyError: 'x'"],
        1,
        LOST,
        "KeyError: 'x'",
    ),
    "an exception of any name": ([*TRACE, OOM[6:], STEP, *TRACE, "queue.Empty"], 1, LOST, "queue.Empty"),
    "an import": ([*WARNINGS, *TRACE, "ModuleNotFoundError: No module named 'verl'"], 1, LOST, "ModuleNotFound"),
    "the hub": ([*WARNINGS, *TRACE, "requests.exceptions.ConnectionError: Max retries exceeded"], 1, LOST, "retries"),
    "an exception group": (
        [
            "  + Exception Group Traceback (most recent call last):",
            "  |   File 'x'",
            "  | ExceptionGroup: one (1 sub)",
            "  +-+---------------- 1 ----------------",
            "    | Traceback (most recent call last):",
            "    |   File 'x'",
            "    | torch.OutOfMemoryError: CUDA out of memory.",
            "    +------------------------------------",
        ],
        1,
        MEMORY,
        "OutOfMemoryError",
    ),
    "an exception that ended nothing": (
        [
            *TRACE,
            OOM[6:],
            "Exception ignored in: <function Pool.__del__ at 0x7f>",
            "Traceback (most recent call last):",
            "  File 'x'",
            "AttributeError: 'NoneType' object has no attribute 'close'",
        ],
        1,
        MEMORY,
        "OutOfMemoryError",
    ),
    "a long line of dots": (["U.S." * 16_000, *TRACE, "KeyError: 'x'"], 1, LOST, "KeyError: 'x'"),
    "SIGTERM": ([*WARNINGS, STEP], -15, STOPPED, "signal 15"),
    "SIGTERM, as torchrun says it": (
        [*TRACE, "torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15"],
        1,
        STOPPED,
        "signal: 15",
    ),
    "nothing": ([], 2, LOST, "it printed nothing"),
    "no words": (["", "--", "12"], 1, LOST, "it printed nothing"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_error_decides(end: str) -> None:
    lines, status, reason, said = ENDS[end]
    failure = classify("ms-swift", Ended(status, tuple(lines)))
    assert (failure.reason, said in failure.message) == (reason, True), failure.message
    assert failure.error_class is (ErrorClass.TERMINAL if reason is MEMORY else ErrorClass.RETRYABLE)
    assert failure.message.startswith("ms-swift ")


def test_interruption_is_retryable() -> None:
    failure = classify("verl", Ended(-15, ("x",), interrupted=True))
    assert (failure.reason, failure.error_class) == (Reason.INTERRUPTED, ErrorClass.RETRYABLE)


def test_the_line_that_names_an_exception_wins_over_what_follows_it() -> None:
    lines = [
        *TRACE,
        f"{RAY}ray.exceptions.RayTaskError(KeyError): ray::f()",
        f"{RAY}KeyError: 'lm_head'",
        "",
        "bye now",
    ]
    assert last_words(lines) == "KeyError: 'lm_head'"


def test_long_lines_are_cut() -> None:
    assert len(last_words(["ValueError: " + "x" * 5000])) == 400


PIECES = st.sampled_from([*TRACE, OOM, STEP, *NCCL, *CHILD_FAILED, *NODE_LOST, *WARNINGS, RAY, "[rank0]: ", ""])


@pytest.mark.fuzz
@given(st.lists(st.tuples(PIECES, st.text(max_size=20)).map("".join) | PIECES | st.text(), max_size=12), st.integers())
def test_whatever_an_engine_printed_its_failure_has_a_name(lines: list[str], status: int) -> None:
    failure = classify("verl", Ended(status, tuple(lines)))
    assert failure.reason in {MEMORY, DISK, LOST, STOPPED}
    assert len(failure.message) < 700
