"""The front door on a bare machine: a Debian with Python, Go and make, and nothing else.

Needs root, as the other end-to-end tests do. Its name comes first: it checks ports, so no cluster of the tests may run.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.images.engine import DAMAGED
from star_cli.local.versions import BUILDERS, NODE, PROMOTION, TOOLS
from tests.support.bareroot import BareRoot, scratch_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

INSTALLED = tuple(name for name in (*BUILDERS, *NODE) if TOOLS[name].debian)
CLIENT = "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n"
# It succeeds in the image alone; what it would print gets lost at times.
PROGRAM = """package main

import "os"

func main() {
	if _, err := os.Stat("/usr"); err == nil {
		os.Exit(1)
	}
}
"""
IMAGE = 'FROM scratch\nCOPY program /program\nRUN ["/program"]\n'
BUILDAH = "buildah --root /root/images --runroot /root/run --storage-driver overlay"
MAKE_IMAGE = f"{BUILDAH} build --isolation chroot --layers --format oci --pull-never --tag localhost/bare:1 /image"
PUSH_IMAGE = f"{BUILDAH} push localhost/bare:1 dir:/root/copy"
UNPACK = "mmdebstrap --quiet --variant=extract --include=base-files bookworm /root/unpacked.tar"


@pytest.fixture(scope="module")
def bare() -> Iterator[BareRoot]:
    """A root that knows a Docker client without an engine, and counts the images as built: 25 GB of disk less."""
    with tempfile.TemporaryDirectory(dir=scratch_folder(), prefix="bare-") as folder:
        root = BareRoot.make(Path(folder) / "root")
        root.write("/usr/local/bin/docker", CLIENT, mode=0o755)
        root.write("/root/.cache/star-operator/images-cpu.yaml", "{}\n")
        yield root


def test_a_bare_machine_is_made_ready_by_the_first_step_of_make_test_and_make_demo(bare: BareRoot) -> None:
    there = [name for name in INSTALLED if bare.has(name, TOOLS[name].directories)]
    assert set(there) <= {"ip"}  # else this proves nothing
    assert not bare.has("update-ca-certificates")

    refused = bare.run("make", "host", "NEEDS=demo", go=False)
    assert refused.returncode != 0
    assert "Go is not installed, and it builds" in refused.stderr
    assert [name for name in INSTALLED if bare.has(name, TOOLS[name].directories)] == there

    done = bare.run("make", "host", "NEEDS=tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(_missing(bare)) <= set(PROMOTION)

    again = bare.run("make", "host", "NEEDS=demo")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_bare_machine_is_made_ready_for_the_proofs_of_promotion(bare: BareRoot) -> None:
    done = bare.run("make", "host", "NEEDS=promotion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _missing(bare) == []


def test_what_was_installed_makes_images_and_environments(bare: BareRoot) -> None:
    assert bare.run("make", "host", "NEEDS=tests").returncode == 0
    bare.write("/image/Dockerfile", IMAGE)
    bare.write("/image/main.go", PROGRAM)
    build = ["go", "build", "-o", str(bare.path / "image" / "program"), str(bare.path / "image" / "main.go")]
    subprocess.run(build, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    made = bare.run("sh", "-c", MAKE_IMAGE)
    assert made.returncode == 0, made.stdout + made.stderr
    for program in bare.path.glob("root/images/overlay/*/diff/program"):
        program.write_bytes(program.read_bytes()[::-1])
    assert DAMAGED in bare.run("sh", "-c", PUSH_IMAGE).stderr
    unpacked = bare.run("sh", "-c", UNPACK)
    assert unpacked.returncode == 0, unpacked.stderr
    environment = bare.run("python3.11", "-m", "venv", "/root/environment")
    assert environment.returncode == 0, environment.stderr


def test_a_machine_without_the_named_python_is_told_so(bare: BareRoot) -> None:
    done = bare.run("make", "host", "PYTHON=python3.99")
    assert done.returncode != 0
    assert "python3.99 is not here, or older than 3.11: install it" in done.stderr


def _missing(bare: BareRoot) -> list[str]:
    return [tool.name for tool in TOOLS.values() if tool.debian and not bare.has(tool.name, tool.directories)]
