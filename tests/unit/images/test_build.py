from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from star_cli.images import build, venvs
from star_cli.images.build import Builder, write_values
from star_cli.images.engine import Buildah, BuildRequest, Docker, Progress, choose, run_logged
from star_cli.images.errors import DamagedStorageError, ImagesError
from star_cli.images.plan import Options, plan
from star_cli.images.recipes import ROLES, Variant
from star_cli.local.progress import Silent

ROOT = Path(__file__).parents[3]


@dataclass
class FakeEngine:
    name: str = "fake"
    default_base: str = "debian"
    images: set[str] = field(default_factory=set)
    requests: list[BuildRequest] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    damaged: bool = False

    def has(self, reference: str) -> bool:
        return reference in self.images

    def build(self, request: BuildRequest, log: Path, progress: Progress) -> None:
        assert (request.context / request.dockerfile).is_file()
        assert (request.tools / "uv.toml").is_file()
        parent = request.arguments.get("PARENT")
        assert parent is None or parent in self.images
        progress(1, 1)
        self.requests.append(request)
        self.images.add(request.reference)

    def push(self, reference: str, address: str, *, secure: bool) -> None:
        assert reference in self.images
        assert not secure
        if self.damaged:
            raise DamagedStorageError("reading blob: file integrity checksum failed")
        self.pushed.append(reference)

    def clear(self) -> None:
        self.images.clear()
        self.damaged = False


@dataclass
class FakeRegistry:
    tags: set[str] = field(default_factory=set)
    address: str = "127.0.0.1:1"
    local: bool = True

    def has(self, repository: str, tag: str) -> bool:
        return f"{repository}:{tag}" in self.tags


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    found = FakeEngine()
    monkeypatch.setattr(build, "choose", lambda cache: found)
    return found


@pytest.fixture
def fake_registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    found = FakeRegistry()

    @contextmanager
    def reachable(address: str, binaries: object) -> Iterator[FakeRegistry]:
        yield found

    monkeypatch.setattr(build, "reachable", reachable)
    return found


def names(references: list[str]) -> list[str]:
    return [reference.rpartition(":")[0].rpartition("/")[2] for reference in references]


def test_builds_parents_first_and_pushes_roles_alone(
    tmp_path: Path, fake_engine: FakeEngine, fake_registry: FakeRegistry
) -> None:
    Builder(ROOT, tmp_path, Silent()).run([])
    built = names([request.reference for request in fake_engine.requests])
    assert built == ["base", "torch", "vllm", "trainer", "rollout", "jobs", "gateway", "git", "operator"]
    assert names(fake_engine.pushed) == list(ROLES)


def test_what_the_registry_holds_is_not_built(
    tmp_path: Path, fake_engine: FakeEngine, fake_registry: FakeRegistry
) -> None:
    images = {image.name: image for image in plan(ROOT, [], Options())}
    fake_registry.tags = {f"star/{role}:{images[role].tag}" for role in ROLES if role != "operator"}
    Builder(ROOT, tmp_path, Silent()).run([])
    assert names([request.reference for request in fake_engine.requests]) == ["base", "operator"]
    assert names(fake_engine.pushed) == ["operator"]


def test_what_was_built_before_is_only_pushed(
    tmp_path: Path, fake_engine: FakeEngine, fake_registry: FakeRegistry
) -> None:
    images = {image.name: image for image in plan(ROOT, [], Options())}
    fake_engine.images = {images["trainer"].reference}
    Builder(ROOT, tmp_path, Silent()).run(["trainer"])
    assert not fake_engine.requests
    assert names(fake_engine.pushed) == ["trainer"]


def test_what_is_not_whole_any_more_is_built_anew(
    tmp_path: Path, fake_engine: FakeEngine, fake_registry: FakeRegistry
) -> None:
    fake_engine.images = {plan(ROOT, ["trainer"], Options())[-1].reference}
    fake_engine.damaged = True
    Builder(ROOT, tmp_path, Silent()).run(["trainer"])
    assert names([request.reference for request in fake_engine.requests]) == ["base", "torch", "trainer"]
    assert names(fake_engine.pushed) == ["trainer"]


def test_without_push_no_registry_is_asked(tmp_path: Path, fake_engine: FakeEngine) -> None:
    Builder(ROOT, tmp_path, Silent()).run(["jobs"], push=False)
    assert names([request.reference for request in fake_engine.requests]) == ["base", "jobs"]
    assert not fake_engine.pushed


def test_the_scratch_folder_is_gone_afterwards(tmp_path: Path, fake_engine: FakeEngine) -> None:
    Builder(ROOT, tmp_path, Silent()).run(["jobs"], push=False)
    assert not list((tmp_path / "tmp").iterdir())


def test_the_references_are_helm_values(tmp_path: Path) -> None:
    images = plan(ROOT, [], Options())
    write_values(images, Options(), tmp_path / "images.yaml")
    values = yaml.safe_load((tmp_path / "images.yaml").read_text())
    assert set(values["images"]["cpu"]) == set(ROLES) - {"operator"}
    assert values["image"].startswith("localhost:5000/star/operator:cpu-")


def request(folder: Path, pull: bool = False) -> BuildRequest:
    return BuildRequest(
        reference="localhost:5000/star/jobs:cpu-1",
        dockerfile="images/jobs/Dockerfile",
        context=folder / "context",
        tools=folder / "tools",
        arguments={"PARENT": "base", "VARIANT": "cpu"},
        uv_cache=folder / "uv",
        folders=[Path("/srv/wheels")],
        pull=pull,
    )


def test_both_engines_get_the_same_build(tmp_path: Path) -> None:
    common = ["--build-context", f"tools={tmp_path}/tools", "--build-arg", "PARENT=base", "--build-arg", "VARIANT=cpu"]
    for command in (Buildah(tmp_path).build_command(request(tmp_path)), Docker().build_command(request(tmp_path))):
        at = command.index("--build-context")
        assert command[at:] == [*common, str(tmp_path / "context")]


def test_buildah_pulls_only_what_is_not_made_here(tmp_path: Path) -> None:
    assert "--pull-never" in Buildah(tmp_path).build_command(request(tmp_path))
    assert "--pull-never" not in Buildah(tmp_path).build_command(request(tmp_path, pull=True))


def test_buildah_keeps_its_storage_in_the_cache(tmp_path: Path) -> None:
    command = Buildah(tmp_path / "containers").build_command(request(tmp_path))
    assert command[:5] == [
        "buildah", "--root", f"{tmp_path}/containers/storage", "--runroot", f"{tmp_path}/containers/run",
    ]  # fmt: skip
    assert f"{tmp_path}/uv:/var/cache/uv" in command


def test_steps_are_reported_and_the_output_is_kept(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    script = "echo 'STEP 1/2: FROM base'; echo '[2/2] STEP 2/2: RUN x'; echo other"
    run_logged(["sh", "-c", script], tmp_path / "x.log", lambda done, total: seen.append((done, total)), {})
    assert seen == [(1, 2), (2, 2)]
    assert (tmp_path / "x.log").read_text().endswith("other\n")


def test_a_failed_build_ends_with_its_last_words_and_its_log(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"(?s)status 3; its whole output is in .*x\.log.*no such package"):
        run_logged(["sh", "-c", "echo no such package; exit 3"], tmp_path / "x.log", lambda done, total: None, {})


def test_without_an_engine_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImagesError, match="run: make host NEEDS=images"):
        choose(tmp_path)


def test_an_environment_is_made_of_the_locks_below_and_its_own() -> None:
    assert venvs.lock_files("trainer", Variant.CPU) == ["images/locks/torch-cpu.txt", "images/locks/trainer-cpu.txt"]
    assert venvs.lock_files("rollout", Variant.CUDA) == ["images/locks/rollout-cuda.txt"]
    assert venvs.lock_files("gateway", Variant.CUDA) == ["images/locks/jobs.txt", "images/locks/gateway.txt"]
