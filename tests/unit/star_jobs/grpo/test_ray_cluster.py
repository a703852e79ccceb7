"""Pods that join a Ray cluster: how they find it, and when they leave."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from star_contracts.errors import Reason
from star_jobs.errors import RetryableFailure
from star_jobs.grpo.verl import ray_cluster
from star_jobs.storage import ObjectStore, WorkArea
from star_jobs.training.cluster import Node
from tests.unit.star_jobs.grpo.stages import stage


class Ready:
    """What joining needs to know of a run."""

    stage = stage(devices=8, nodes=2)
    node = Node(rank=1, nodes=2, master="grpo-0.grpo")


class Job:
    """A pod's job, as far as joining needs it."""

    def __init__(self, work: Any, scratch: Path, output: str = "s3://star/out/1") -> None:
        self.work, self.scratch = work, scratch
        self.stopping = threading.Event()
        self.log = structlog.get_logger()
        self.spec = type("Spec", (), {"output": output})()

    def raise_if_stopping(self) -> None:
        if self.stopping.is_set():
            raise RetryableFailure(Reason.INTERRUPTED, "stop")


@pytest.fixture
def work(store: ObjectStore, uri: str) -> WorkArea:
    return WorkArea(store, uri)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "ray.py"
    script.write_text("import threading; threading.Event().wait(60)")
    monkeypatch.setattr(ray_cluster, "_ray", lambda: (sys.executable, str(script)))
    monkeypatch.setattr(ray_cluster, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(ray_cluster, "_TICK_SECONDS", 0.05)


def follow(job: Job) -> None:
    ray_cluster.follow(Ready, job, dict(os.environ))  # type: ignore[arg-type]


def test_a_pod_joins_the_first_pods_head() -> None:
    found = ray_cluster.join_arguments(Ready)  # type: ignore[arg-type]
    assert found[2:] == ("start", "--address=grpo-0.grpo:6379", "--num-gpus=8", "--disable-usage-stats", "--block")


def test_it_leaves_when_the_first_pod_says_so(work: WorkArea, tmp_path: Path) -> None:
    job = Job(work, tmp_path)
    ray_cluster.dismiss(job)  # type: ignore[arg-type]
    follow(job)


def test_a_note_of_an_earlier_attempt_sends_nobody_home(work: WorkArea, tmp_path: Path) -> None:
    ray_cluster.dismiss(Job(work, tmp_path, "s3://star/out/1"))  # type: ignore[arg-type]
    job = Job(work, tmp_path, "s3://star/out/2")
    threading.Timer(1.0, job.stopping.set).start()
    with pytest.raises(RetryableFailure) as raised:
        follow(job)
    assert raised.value.reason is Reason.INTERRUPTED


def test_a_store_that_is_away_for_a_moment_is_no_reason_to_leave(work: WorkArea, tmp_path: Path) -> None:
    class Flaky:
        looks = 0

        def get(self, name: str) -> bytes | None:
            self.looks += 1
            if self.looks == 1:
                raise RetryableFailure(Reason.STORE_UNREACHABLE, "away")
            return work.get(name)

    ray_cluster.dismiss(Job(work, tmp_path))  # type: ignore[arg-type]
    flaky = Flaky()
    follow(Job(flaky, tmp_path))
    assert flaky.looks >= 2


def test_a_head_that_never_comes_up(work: WorkArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("import sys; sys.exit('ConnectionError: Could not reach grpo-0.grpo')")
    monkeypatch.setattr(ray_cluster, "JOIN_SECONDS", 0.0)
    with pytest.raises(RetryableFailure, match="Could not reach") as raised:
        follow(Job(work, tmp_path))
    assert raised.value.reason is Reason.TRAINER_FAILED
