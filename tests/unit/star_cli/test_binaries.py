import hashlib
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import httpx
import pytest

from star_cli.local import binaries, sources
from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.progress import Silent, Step
from star_cli.local.sources import Downloader, SourceUnavailable, expected_checksum, extract
from star_cli.local.versions import (
    CLIENTS,
    CONTROL_PLANE,
    CONTROLLERS,
    NODE,
    PROMOTION,
    TOOLS,
    GoProgram,
    Release,
    Tool,
)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def step() -> Step:
    with Silent().step("x") as made:
        return made


@pytest.mark.parametrize(
    ("tool", "output", "fits"),
    [
        ("kube-apiserver", "Kubernetes v1.35.4", True),
        ("kube-apiserver", "Kubernetes v1.34.4", False),
        ("kubectl", "Client Version: v1.34.1\nKustomize Version: v5.7.1", True),
        ("kubectl", "Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", False),
        ("etcd", "etcd Version: 3.6.16\nGit SHA: x", True),
        ("etcd", "etcd Version: 3.4.1", False),
        ("helm", "v4.1.4", True),
        ("helm", "v3.9.0", False),
        ("etcd", "no such option", False),
    ],
)
def test_program_fits_by_what_it_prints(tool: str, output: str, fits: bool) -> None:
    assert TOOLS[tool].accepts(output) is fits


def test_every_program_has_a_way_to_it_and_every_module_is_committed() -> None:
    for name in (*CONTROL_PLANE, *CONTROLLERS, *CLIENTS, *NODE, *PROMOTION):
        tool = TOOLS[name]
        assert tool.go or tool.wheel or tool.debian, name
        if tool.go:
            module = resources.files("star_cli.local") / "gomods" / tool.go.folder / "go.mod"
            assert module.read_text().startswith(f"module star.local/{tool.go.folder}\n")


def test_committed_modules_have_the_versions_of_the_table() -> None:
    for name, needle in {
        "etcd": f"go.etcd.io/etcd/server/v3 v{TOOLS['etcd'].version}",
        "kubelet": f"k8s.io/kubernetes v{TOOLS['kubelet'].version}",
        "versitygw": f"github.com/versity/versitygw v{TOOLS['versitygw'].version}",
        "registry": f"github.com/distribution/distribution/v3 v{TOOLS['registry'].version}",
        "coredns": f"github.com/coredns/coredns v{TOOLS['coredns'].version}",
        "helm": f"helm.sh/helm/v4 v{TOOLS['helm'].version}",
        "kind": f"sigs.k8s.io/kind v{TOOLS['kind'].version}",
        "gitea": f"code.gitea.io/gitea v{TOOLS['gitea'].version}",
        "argocd": f"github.com/argoproj/argo-cd/v3 v{TOOLS['argocd'].version}",
        "kustomize": f"sigs.k8s.io/kustomize/kustomize/v5 v{TOOLS['kustomize'].version}",
    }.items():
        module = TOOLS[name].go
        assert module is not None
        assert needle in (resources.files("star_cli.local") / "gomods" / module.folder / "go.mod").read_text()


def test_releases_are_official_https_urls_of_the_pinned_version() -> None:
    for tool in TOOLS.values():
        if tool.release:
            assert tool.release.url.startswith("https://")
            assert tool.release.checksums.startswith("https://")
            assert tool.version in tool.release.url


def test_assets_folder_comes_before_path_and_a_wrong_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = script(tmp_path / "old" / "etcd", "echo etcd Version: 3.4.0")
    good = script(tmp_path / "good" / "etcd", "echo etcd Version: 3.6.1")
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{good.parent}")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert binaries.find(TOOLS["etcd"]) == good
    assets = script(tmp_path / "assets" / "etcd", "echo etcd Version: 3.6.9")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets.parent))
    assert binaries.find(TOOLS["etcd"]) == assets


def test_cni_plugin_is_never_taken_from_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iproute = script(tmp_path / "bridge", "echo bridge utility")
    monkeypatch.setenv("PATH", str(iproute.parent))
    found = binaries.find(TOOLS["bridge"])
    assert found is None or found != iproute


def test_each_way_is_tried_in_order_and_the_result_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def offline(self: Downloader, release: Release, target: Path, step: Step) -> None:
        tried.append("release")
        raise SourceUnavailable("offline")

    def build(programs: Sequence[GoProgram], target: Path, cache: Path, step: Step) -> None:
        tried.append("go")
        target.mkdir()
        for program in programs:
            (target / program.package.rpartition("/")[2]).write_text("program")

    monkeypatch.setattr(Downloader, "fetch", offline)
    monkeypatch.setattr(binaries, "build_go", build)
    monkeypatch.setattr(binaries, "find", lambda tool: None)
    path = Binaries(tmp_path).ensure("etcd")
    assert tried == ["release", "go"]
    assert path == tmp_path / "bin" / TOOLS["etcd"].file_name
    assert path.stat().st_mode & 0o111
    assert Binaries(tmp_path).ensure("etcd") == path
    assert tried == ["release", "go"]


def test_programs_of_one_module_are_built_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[list[str]] = []

    def build(programs: Sequence[GoProgram], target: Path, cache: Path, step: Step) -> None:
        built.append([program.package.rpartition("/")[2] for program in programs])
        target.mkdir()
        for name in built[-1]:
            (target / name).write_text(name)

    monkeypatch.setattr(Downloader, "offline", "no network")
    monkeypatch.setattr(binaries, "build_go", build)
    monkeypatch.setattr(binaries, "find", lambda tool: None)
    paths = Binaries(tmp_path).ensure_all(("etcd", "kube-apiserver", "registry"))
    assert built == [["etcd", "kube-apiserver", "registry"]]
    assert {name: path.read_text() for name, path in paths.items()} == {name: name for name in paths}
    assert [tool.name for tool in Binaries(tmp_path).missing(("etcd", "kubelet"))] == ["kubelet"]


def test_a_package_is_built_under_its_programs_name() -> None:
    for tool in TOOLS.values():
        assert tool.go is None or re.sub(r"/v\d+$", "", tool.go.package).rpartition("/")[2] == tool.name


def test_the_whole_module_is_laid_out_for_the_compiler(tmp_path: Path) -> None:
    folder = sources._lay_out("cluster", tmp_path)
    committed = resources.files("star_cli.local") / "gomods" / "cluster"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"go.mod", "go.sum", "etcd/main.go", "coredns/main.go", "registry/main.go", "pause/main.go"} <= names
    assert all((folder / name).read_bytes() == committed.joinpath(name).read_bytes() for name in names)


def test_error_gives_the_reason_of_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SourceUnavailable("because")

    monkeypatch.setattr(Downloader, "fetch", fails)
    monkeypatch.setattr(binaries, "build_go", fails)
    monkeypatch.setattr(binaries, "find", lambda tool: None)
    with pytest.raises(LocalClusterError) as error:
        Binaries(tmp_path).ensure("etcd")
    assert "- download etcd" in str(error.value)
    assert "- build etcd" in str(error.value)
    assert "put it at" in str(error.value)


def test_no_second_connection_is_tried_after_one_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    calls: list[str] = []

    def refuse(self: httpx.Client, url: str) -> httpx.Response:
        calls.append(url)
        raise httpx.ConnectTimeout("no route")

    monkeypatch.setattr(httpx.Client, "get", refuse)
    downloader = Downloader()
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="out of reach"):
            downloader.fetch(Release("https://releases.test/a", "https://releases.test/a.sha256"), tmp_path / "a", step)
    assert len(calls) == 1


@pytest.mark.parametrize("honest", [True, False])
def test_download_counts_only_with_its_published_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step, honest: bool
) -> None:
    data = b"program"
    published = hashlib.sha256(data if honest else b"other").hexdigest()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=published.encode() if request.url.path.endswith(".sha256") else data)

    real = httpx.Client
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(sources.httpx, "Client", lambda **options: real(transport=transport))
    release = Release("https://releases.test/program", "https://releases.test/program.sha256")
    if honest:
        Downloader().fetch(release, tmp_path / "target", step)
        assert (tmp_path / "target").read_bytes() == data
    else:
        with pytest.raises(SourceUnavailable, match="its publisher says"):
            Downloader().fetch(release, tmp_path / "target", step)
        assert not (tmp_path / "target").exists()


HASH = "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        HASH,
        f"{HASH}\n",
        f"{HASH}  file.tar.gz\n",
        f"{'b' * 64}  other\n{HASH} *file.tar.gz\n",
        f"{HASH}  dist/file.tar.gz",
    ],
)
def test_checksum_files_of_every_project_are_read(text: str) -> None:
    assert expected_checksum(text, "file.tar.gz") == HASH


@pytest.mark.parametrize("text", ["", "<html>", f"{HASH}  other", "abc  file.tar.gz"])
def test_checksum_file_without_ours_is_refused(text: str) -> None:
    with pytest.raises(SourceUnavailable, match=r"no sha256 of file\.tar\.gz"):
        expected_checksum(text, "file.tar.gz")


def test_one_file_comes_out_of_tar_and_zip() -> None:
    packed, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("./bin/tool")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
    with zipfile.ZipFile(zipped, "w") as pack:
        pack.writestr("bin/tool", "data")
    assert extract(packed.getvalue(), "bin/tool") == b"data"
    assert extract(zipped.getvalue(), "bin/tool") == b"data"
    for data in (packed.getvalue(), zipped.getvalue(), b"neither"):
        with pytest.raises(SourceUnavailable):
            extract(data, "bin/other")


def test_tool_names_are_the_tables_keys() -> None:
    assert all(isinstance(tool, Tool) and tool.name == name for name, tool in TOOLS.items())
