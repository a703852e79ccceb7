"""Training steps run in images of their own: what only the jobs image has must not be imported there."""

import subprocess
import sys

import pytest

ONLY_IN_JOBS = ("openai", "httpx2", "polars")


@pytest.mark.parametrize("stage", ["star_jobs.grpo.train", "star_jobs.grpo.verl.run", "star_jobs.sft.train"])
def test_a_training_stage_does_without_the_jobs_images_packages(stage: str) -> None:
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ONLY_IN_JOBS)
    program = f"import sys; {blocked}; import {stage}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
