"""`star-job`: the one entry point of every job pod.

    star-job          run the job spec at $STAR_JOB_SPEC (default /etc/star/job.json)
    star-job fetch    download one artifact, verified, as $STAR_FETCH_SPEC says (default /etc/star/fetch.json)
    star-job sweep    mark and delete what is let go, as $STAR_SWEEP_SPEC says (default /etc/star/sweep.json)
    star-job promote  pin a checkpoint's digest in Git, as $STAR_PROMOTION_SPEC says (/etc/star/promotion.json)
    star-job serve    run the gateway ($STAR_GATEWAY_CONFIG, default /etc/star/gateway.json)
    star-job vllm …   become `vllm serve …`, with `--dtype auto` resolved for this machine's processor

Exit codes: 0 done, 65 terminal error, 75 retryable error; the termination message says why.
Stages are imported only when they run, so that an image needs the libraries of its own stages alone.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind
from star_contracts.errors import Reason
from star_contracts.result import JobResult
from star_contracts.serving import FETCH_SPEC_PATH, FetchSpec
from star_jobs import runtime
from star_jobs.errors import TerminalFailure
from star_jobs.models.folder import describe
from star_jobs.storage import ObjectStore, fetch, read_manifest

STAGES = {
    "prepare-dataset": "star_jobs.datasets.prepare",
    "compute-neighbours": "star_jobs.verbalize.neighbours",
    "verbalize-signals": "star_jobs.verbalize.verbalize",
    "collect-signals": "star_jobs.verbalize.collect",
    "generate-trajectories": "star_jobs.teacher.generate",
    "collect-trajectories": "star_jobs.teacher.collect",
    "train-sft": "star_jobs.sft.train",
    "sample-difficulty": "star_jobs.grpo.sample",
    "train-grpo": "star_jobs.grpo.train",
    "evaluate": "star_jobs.evaluate.run",
    "import-model": "star_jobs.models.import_gguf",
    "look-up": "star_jobs.lookup_only",
}
"""Stage name -> module with `run(stage, job) -> Outcome`."""
GATEWAY = "star_jobs.serve.main"
"""Module with `main() -> int`."""
SWEEP = "star_jobs.sweep.run"
"""Module with `sweep(stopping) -> JobResult`."""
PROMOTE = "star_jobs.promote.run"
"""Module with `promote(stopping) -> JobResult`."""
LLM_SERVER = "star_jobs.llm.server"
"""Module with `main(arguments) -> int`."""


def load_entry(stage: str) -> runtime.Entry:
    """Import a stage's module and return its entry."""
    entry: runtime.Entry = importlib.import_module(STAGES[stage]).run
    return entry


def fetch_artifact(_stopping: threading.Event) -> JobResult:
    """Download the artifact of the fetch spec into its destination, and look at a model before it is loaded.

    Raises JobFailure.
    """
    path = Path(os.environ.get("STAR_FETCH_SPEC", FETCH_SPEC_PATH))
    try:
        spec = FetchSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the fetch spec {path} cannot be used ({error}); set STAR_FETCH_SPEC"
        ) from error
    store = ObjectStore(spec.store)
    folder = fetch(store, spec.artifact, Path(spec.destination))
    manifest = read_manifest(store, spec.artifact)
    if manifest.kind is ArtifactKind.CHECKPOINT:
        describe(folder, spec.artifact.uri, template=spec.chat_template is None)
    return JobResult(artifact=spec.artifact, bytes=manifest.total_bytes(), metrics=manifest.metrics)


def main() -> int:
    """Run the command the arguments name; return the process's exit code."""
    match sys.argv[1:]:
        case []:
            return runtime.main(load_entry)
        case ["fetch"]:
            runtime.configure_logging()
            return runtime.answer(fetch_artifact)
        case ["sweep"]:
            runtime.configure_logging()
            sweep: Callable[[threading.Event], JobResult] = importlib.import_module(SWEEP).sweep
            return runtime.answer(sweep)
        case ["promote"]:
            runtime.configure_logging()
            promote: Callable[[threading.Event], JobResult] = importlib.import_module(PROMOTE).promote
            return runtime.answer(promote)
        case ["serve", *_]:
            code: int = importlib.import_module(GATEWAY).main()
            return code
        case ["vllm", *arguments]:
            code = importlib.import_module(LLM_SERVER).main(arguments)
            return code
        case _:
            sys.stderr.write(f"{__doc__}\nunknown arguments: {' '.join(sys.argv[1:])}\n")
            return 64


if __name__ == "__main__":
    sys.exit(main())
