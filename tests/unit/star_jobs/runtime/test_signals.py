"""SIGTERM and a full disk, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from star_contracts.artifact import Producer
from star_contracts.base import value_hash
from star_contracts.job import ImportModel, JobSpec
from star_contracts.result import ExitCode, JobResult
from tests.support.s3 import S3Server

PROGRAM = """
import sys, time
from pathlib import Path
from star_jobs import runtime

def run(stage, job):
    Path(sys.argv[1]).touch()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sys.argv[2] == "polite":
            job.raise_if_stopping()
        elif sys.argv[2] == "full-disk":
            with open("/dev/full", "wb", buffering=0) as out:
                out.write(b"1")
        time.sleep(0.01)

sys.exit(runtime.main(lambda stage: run))
"""


@pytest.fixture
def environment(s3_server: S3Server, uri: str, tmp_path: Path) -> dict[str, str]:
    spec = JobSpec(
        store=s3_server.store(),
        producer=Producer(kind="K", namespace="ns", name="n", uid="u", step="s", work_hash=value_hash(1)),
        output=f"{uri}/out",
        work=f"{uri}/work",
        stage=ImportModel(source=f"{uri}/model.gguf"),
    )
    (tmp_path / "job.json").write_text(spec.model_dump_json(by_alias=True))
    (tmp_path / "program.py").write_text(PROGRAM)
    return {
        **os.environ,
        **s3_server.environment(),
        "STAR_JOB_SPEC": str(tmp_path / "job.json"),
        "STAR_TERMINATION_LOG": str(tmp_path / "termination-log"),
        "STAR_WORK_DIR": str(tmp_path / "work"),
        "STAR_STOP_GRACE_SECONDS": "0.5",
    }


def start(mode: str, environment: dict[str, str], tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "started"), mode], env=environment
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)  # between polls, under the deadline above


@pytest.mark.parametrize("mode", ["polite", "deaf"])
def test_sigterm_ends_a_stage_as_interrupted(mode: str, environment: dict[str, str], tmp_path: Path) -> None:
    process = start(mode, environment, tmp_path)
    wait_for(tmp_path / "started")
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == ExitCode.RETRYABLE
    took = time.monotonic() - asked
    result = JobResult.model_validate_json((tmp_path / "termination-log").read_bytes())
    assert result.error is not None
    assert result.error.reason == "Interrupted"
    assert took < 10


def test_a_full_disk_is_out_of_disk(environment: dict[str, str], tmp_path: Path) -> None:
    assert start("full-disk", environment, tmp_path).wait(timeout=60) == ExitCode.RETRYABLE
    result = JobResult.model_validate_json((tmp_path / "termination-log").read_bytes())
    assert result.error is not None
    assert result.error.reason == "OutOfDisk"
    assert "compute.resources.scratch" in result.error.message
