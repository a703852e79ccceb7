"""What every job does around its stage: read the spec, reuse finished work, run, commit, answer, exit.

A stage is a module with `def run(stage: <StageModel>, job: JobContext) -> Outcome`. It reads inputs with `job.fetch`,
writes files with `job.output`, keeps resumable state in `job.work`, and raises `JobFailure`s. The runtime commits the
manifest (last), remembers the work in the memo object, writes the termination message and picks the exit code.
"""

import math
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind, ArtifactRef, Inventory, Manifest, Producer, memo_root
from star_contracts.base import value_hash
from star_contracts.errors import JobWarning, Reason
from star_contracts.job import JOB_SPEC_PATH, READS_RAW_FILES, JobSpec, pinned
from star_contracts.names import WORK_DIR
from star_contracts.result import JobResult
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure, as_failure
from star_jobs.reporting import Reporter
from star_jobs.storage import ArtifactWriter, ObjectStore, WorkArea, fetch, find_manifest, read_manifest
from star_jobs.storage.marks import require_use, take_up

TERMINATION_LOG = "/dev/termination-log"
STOP_GRACE_SECONDS = {"train-sft": 105.0, "train-grpo": 105.0}
"""After SIGTERM a stage has this long to put its last checkpoint away; then the process answers and ends. Less than
the pods' terminationGracePeriodSeconds (120 for training, 60 for the rest), so that the answer is always given."""
DEFAULT_STOP_GRACE_SECONDS = 45.0

T = TypeVar("T")
Logger = structlog.stdlib.BoundLogger


@dataclass(frozen=True)
class Outcome:
    """What a stage made."""

    kind: ArtifactKind | None
    """Kind of the artifact written to `job.output`; None for a shard that left only part files in `job.work`."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Digests of what it was made from, by role; those that the job spec names go into the manifest by themselves."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[JobWarning] = ()
    """What a person should know of it nevertheless; a few sentences, as they all go into the termination message."""


class Finished(Exception):
    """Ends a stage whose work was done before."""

    def __init__(self, result: JobResult) -> None:
        super().__init__("the same work was done before")
        self.result = result


@dataclass
class JobContext:
    """What a stage gets to work with."""

    spec: JobSpec
    store: ObjectStore
    output: ArtifactWriter
    work: WorkArea
    shard_index: int
    """From JOB_COMPLETION_INDEX (Indexed Job); 0 elsewhere."""
    scratch: Path
    """An empty local folder, removed at the end."""
    stopping: threading.Event
    """Set on SIGTERM."""
    log: Logger
    reporter: Reporter
    source: Inventory | None = None
    """Which version of its raw files the stage reads; see `pin`."""

    def fetch(self, ref: ArtifactRef, only: Sequence[str] | None = None) -> Path:
        """Return a local, verified copy of an artifact (or of its files matching `only`), cached by digest.

        Raises JobFailure as `star_jobs.storage.fetch` does.
        """
        subset = "" if only is None else "-" + value_hash(sorted(only))[-8:]
        name = ref.digest.removeprefix("sha256:")[:32] + subset
        return fetch(self.store, ref, work_dir() / "artifacts" / name, only)

    def pin(self, source: Inventory) -> None:
        """Make the version of a stage's raw files part of its work; call it before any of them is read.

        Raises Finished when the same work was done before on the same files.
        """
        self.source = source
        self.spec = pinned(self.spec, source.digest)
        self.output, self.work = ArtifactWriter(self.store, self.spec.output), WorkArea(self.store, self.spec.work)
        require_use(self.store, self.spec.work)
        done = _finished(self.spec, self.store, self.log)
        if done is not None:
            raise Finished(done)

    def take_as_done(self, ref: ArtifactRef) -> None:
        """Raise Finished with an artifact that is what this work would make once more.

        Returns where it cannot be taken, as it is let go, or nothing is to be reused (cachePolicy Never).
        Raises JobFailure as `read_manifest` does.
        """
        if self.spec.memo is not None and take_up(self.store, ref.uri):
            raise Finished(_reused(read_manifest(self.store, ref), ref, self.log))

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        """Report progress of this shard. Never raises, never blocks."""
        self.reporter.report(done, total, unit, metrics)

    def mine(self, work: Sequence[T]) -> list[T]:
        """Return this shard's part of a list that every shard sees in the same order."""
        return list(work[self.shard_index :: self.spec.shard.count])

    def raise_if_stopping(self) -> None:
        """Raise RetryableFailure(Interrupted) once SIGTERM has come; call it between pieces of work."""
        if self.stopping.is_set():
            raise RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; finished parts are kept and reused")


Entry = Callable[[Any, JobContext], Outcome]


def work_dir() -> Path:
    """Return the local folder for downloads and scratch files (env STAR_WORK_DIR)."""
    return Path(os.environ.get("STAR_WORK_DIR", WORK_DIR))


def main(load_entry: Callable[[str], Entry]) -> int:
    """Run the job that STAR_JOB_SPEC names; return the exit code. `load_entry` maps a stage's name to its entry."""
    configure_logging()
    path = Path(os.environ.get("STAR_JOB_SPEC", JOB_SPEC_PATH))
    return answer(lambda stopping: run_job(read_spec(path), load_entry, stopping), _stop_grace(path))


def answer(work: Callable[[threading.Event], JobResult], stop_grace: float = DEFAULT_STOP_GRACE_SECONDS) -> int:
    """Run `work` under SIGTERM handling, write its result as the termination message, return the exit code."""
    log: Logger = structlog.get_logger()
    stopping = threading.Event()
    with _sigterm(stopping, stop_grace):
        try:
            result = work(stopping)
        except BaseException as error:
            failure = _interrupted() if isinstance(error, KeyboardInterrupt) else as_failure(error)
            log.error("job failed", reason=failure.reason, message=failure.message, exc_info=_trace(error))
            result = JobResult(error=failure.to_error())
    _write_termination_message(result)
    return int(result.exit_code())


def run_job(spec: JobSpec, load_entry: Callable[[str], Entry], stopping: threading.Event) -> JobResult:
    """Run one job to its result: reused when this work is done already, computed otherwise. Raises JobFailure."""
    log = structlog.get_logger().bind(stage=spec.stage.stage, **spec.producer.model_dump(include={"kind", "name"}))
    store = ObjectStore(spec.store)
    require_use(store, spec.work)
    done = None if spec.stage.stage in READS_RAW_FILES else _finished(spec, store, log)
    if done is not None:
        return done
    index = _shard_index()
    reporter = Reporter(spec.progress, index, spec.shard.count)
    with _scratch() as scratch:
        job = JobContext(
            spec=spec,
            store=store,
            output=ArtifactWriter(store, spec.output),
            work=WorkArea(store, spec.work),
            shard_index=index,
            scratch=scratch,
            stopping=stopping,
            log=log,
            reporter=reporter,
        )
        try:
            outcome = load_entry(spec.stage.stage)(spec.stage, job)
            result = _commit(job, outcome)
        except Finished as finished:
            result = finished.result
        finally:
            reporter.close()
        return result.model_copy(update={"source": job.source})


def read_spec(path: Path) -> JobSpec:
    """Read the job spec. Raises TerminalFailure(InvalidJobSpec) naming the field that is wrong."""
    try:
        return JobSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the job spec {path} cannot be read ({error.strerror}): set STAR_JOB_SPEC"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC,
            f"the job spec is not valid at {where}: {first['msg']}; operator and job images must be of one version",
        ) from error


def configure_logging() -> None:
    """Log JSON lines to stdout: one event a line, times in UTC."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )


def _finished(spec: JobSpec, store: ObjectStore, log: Logger) -> JobResult | None:
    """Return the result of this very work when it is done: at the output (a restarted pod) or elsewhere (the memo)."""
    require_use(store, spec.output)
    found = find_manifest(store, spec.output)
    if found is not None:
        manifest, ref = found
        if not _is_of(manifest, spec.producer, spec.inputs):
            raise TerminalFailure(
                Reason.INVALID_JOB_SPEC,
                f"output {spec.output} already holds the artifact of other work; artifacts are never overwritten: "
                "use another attempt or name",
            )
        return _reused(manifest, ref, log)
    if spec.whole is not None:
        whole = spec.whole
        collected = spec.producer.model_copy(update={"step": whole.step, "work_hash": whole.work_hash})
        if _remembered(whole.memo, collected, whole.inputs, store, log) is not None:
            log.info("what is collected from the parts is there already", memo=whole.memo)
            return JobResult(reused=True)
    found = _remembered(spec.memo, spec.producer, spec.inputs, store, log) if spec.memo is not None else None
    return _reused(*found, log) if found is not None else None


def _remembered(
    uri: str, wanted: Producer, inputs: Mapping[str, str], store: ObjectStore, log: Logger
) -> tuple[Manifest, ArtifactRef] | None:
    """Return the artifact that a memo names; None where there is none, or it is gone, or of other work.

    A memo says where to look, and no more: whoever can write one could name anything. Its artifact is believed when it
    lies in the memo's own namespace, has the digest that is claimed, and is of this work, by these inputs.
    """
    memo = store.find_bytes(uri)
    if memo is None:
        return None
    try:
        ref = ArtifactRef.model_validate_json(memo)
        if not ref.uri.startswith(f"{memo_root(uri)}/"):
            log.warning("the remembered artifact is of another namespace: running again", memo=uri, uri=ref.uri)
            return None
        if not take_up(store, ref.uri):
            log.warning("the remembered artifact was let go: running again", memo=uri, uri=ref.uri)
            return None
        manifest = read_manifest(store, ref)
    except (ValidationError, TerminalFailure) as error:
        log.warning("the remembered artifact is gone or changed: running again", memo=uri, error=str(error))
        return None
    if not _is_of(manifest, wanted, inputs):
        log.warning("the remembered artifact is of other work: running again", memo=uri, uri=ref.uri)
        return None
    return manifest, ref


def _is_of(manifest: Manifest, wanted: Producer, inputs: Mapping[str, str]) -> bool:
    """Say whether an artifact is of this work, whatever the resource was called that made it."""
    made = manifest.producer
    same = (made.work_hash, made.namespace, made.kind) == (wanted.work_hash, wanted.namespace, wanted.kind)
    return same and wanted.step in ("", made.step) and inputs.items() <= manifest.inputs.items()


def _reused(manifest: Manifest, ref: ArtifactRef, log: Logger) -> JobResult:
    log.info("reused a finished artifact", uri=ref.uri)
    return JobResult(
        artifact=ref, bytes=manifest.total_bytes(), metrics=manifest.metrics, reused=True, warnings=manifest.warnings
    )


def _commit(job: JobContext, outcome: Outcome) -> JobResult:
    _require_finite(outcome.metrics)
    if outcome.kind is None:
        return JobResult(metrics=dict(outcome.metrics), warnings=tuple(outcome.warnings))
    inputs = {**job.spec.inputs, **outcome.inputs}
    manifest = job.output.commit(outcome.kind, job.spec.producer, inputs, outcome.metrics, outcome.warnings)
    ref = ArtifactRef(uri=job.spec.output, digest=manifest.digest())
    if job.spec.memo is not None:
        try:
            job.store.put_bytes(job.spec.memo, ref.model_dump_json(by_alias=True).encode())
        except JobFailure as failure:  # the artifact is whole: only a later reuse is lost
            job.log.warning("could not remember the artifact", memo=job.spec.memo, error=failure.message)
    job.log.info("artifact written", uri=ref.uri, digest=ref.digest, bytes=manifest.total_bytes())
    for warning in outcome.warnings:
        job.log.warning("told as a condition", reason=warning.reason, message=warning.message)
    return JobResult(
        artifact=ref,
        bytes=manifest.total_bytes(),
        metrics=dict(outcome.metrics),
        warnings=tuple(outcome.warnings),
    )


def _require_finite(metrics: Mapping[str, float]) -> None:
    """Raise for a figure that is NaN or infinite: JSON has no such numbers, and the same work makes it again."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TerminalFailure(
                Reason.INTERNAL, f"metric {name} of the finished work is {value}; report it with this pod's log"
            )


def _shard_index() -> int:
    text = os.environ.get("JOB_COMPLETION_INDEX", "0")
    if not text.isdecimal():
        raise TerminalFailure(Reason.INVALID_JOB_SPEC, f"JOB_COMPLETION_INDEX is {text!r}: it must be a whole number")
    return int(text)


@contextmanager
def _scratch() -> Iterator[Path]:
    root = work_dir() / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _sigterm(stopping: threading.Event, grace: float) -> Iterator[None]:
    """Set `stopping` on SIGTERM; a stage that has not stopped after the grace time is ended with its answer given."""
    deadline = threading.Timer(grace, _give_up)
    deadline.daemon = True

    def on_signal(_number: int, _frame: object) -> None:
        if not stopping.is_set():
            stopping.set()
            deadline.start()

    previous = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        deadline.cancel()
        signal.signal(signal.SIGTERM, previous)


def _stop_grace(spec_path: Path) -> float:
    override = os.environ.get("STAR_STOP_GRACE_SECONDS")
    if override is not None:
        return float(override)
    try:
        return STOP_GRACE_SECONDS.get(read_spec(spec_path).stage.stage, DEFAULT_STOP_GRACE_SECONDS)
    except JobFailure:  # it is about to be reported
        return DEFAULT_STOP_GRACE_SECONDS


def _interrupted() -> JobFailure:
    return RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; finished parts are kept and reused")


def _give_up() -> None:
    result = JobResult(error=_interrupted().to_error())
    _write_termination_message(result)
    os._exit(int(result.exit_code()))


def _trace(error: BaseException) -> BaseException | None:
    """Log a trace for the unforeseen only; typed failures say enough themselves."""
    return None if isinstance(error, JobFailure) and error.__cause__ is None else error


def _write_termination_message(result: JobResult) -> None:
    path = Path(os.environ.get("STAR_TERMINATION_LOG", TERMINATION_LOG))
    try:
        path.write_text(result.termination_message())
    except OSError as error:  # outside a pod there is no such file; the exit code still says it
        structlog.get_logger().warning("could not write the termination message", path=str(path), error=str(error))
