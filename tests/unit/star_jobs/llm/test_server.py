"""`star-job vllm`: the container's first process on a node without GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from star_contracts.processor import parse, this_processor
from star_jobs.llm.server import settle
from tests.support import processors

ARGUMENTS = ["/work/model", "--dtype", "auto", "--enforce-eager"]


@pytest.mark.parametrize(
    ("cpuinfo", "number_format"),
    [(processors.AVX2, "float32"), (processors.AVX512_BF16, "bfloat16"), (processors.ARM_BF16, "bfloat16")],
)
def test_auto_follows_the_nodes_processor(cpuinfo: str, number_format: str) -> None:
    found, choice = settle(ARGUMENTS, parse(cpuinfo))
    assert found == ["/work/model", "--dtype", number_format, "--enforce-eager"]
    assert not choice.slow


def test_vllm_never_chooses_by_itself() -> None:
    assert settle(["/work/model"], parse(processors.AVX2))[0] == ["/work/model", "--dtype", "float32"]


def test_what_is_asked_for_stays() -> None:
    for asked in ("bfloat16", "float16", "float32"):
        found, choice = settle(["m", "--dtype", asked], parse(processors.AVX2))
        assert found == ["m", "--dtype", asked]
        assert choice.slow is (asked == "bfloat16")


def start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "star_jobs", "vllm", *ARGUMENTS]
    environment = {**os.environ, "PATH": str(folder)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_process_says_what_it_chose_and_becomes_vllm(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text('#!/bin/sh\necho "$$ $*"\n')
    program.chmod(0o755)
    process = start(tmp_path)
    out, _ = process.communicate(timeout=60)
    said, became = out.splitlines()
    chosen = this_processor().choose()
    line = json.loads(said)
    assert (line["event"], line["computes_in"], line["because"]) == (
        "number format",
        chosen.number_format,
        chosen.because,
    )
    # The same process: signals and the exit status are vLLM's.
    assert became == f"{process.pid} serve /work/model --dtype {chosen.number_format} --enforce-eager"
    assert process.returncode == 0


@pytest.mark.bad_input
def test_an_image_without_vllm(tmp_path: Path) -> None:
    process = start(tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 127
    assert "no vllm in this image" in err
