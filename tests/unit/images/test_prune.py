from dataclasses import dataclass, field
from pathlib import Path

import pytest

from star_cli.images import prune
from star_cli.images.errors import ImagesError
from star_cli.local.binaries import Binaries

TAGS = "registry/docker/registry/v2/repositories/star/{}/_manifests/tags/{}/current"


@dataclass
class FakeEngine:
    name: str = "fake"
    images: list[str] = field(default_factory=list)

    def references(self) -> list[str]:
        return list(self.images)

    def remove(self, reference: str) -> None:
        self.images.remove(reference)

    def remove_dangling(self) -> None:
        """Nothing dangles here."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, tag in (("jobs", "cpu-new"), ("jobs", "cpu-old"), ("vllm", "cpu-old")):
        file = tmp_path / TAGS.format(name, tag)
        file.mkdir(parents=True)
        (file / "link").write_text("sha256:1")
    monkeypatch.setattr(prune, "_collect_garbage", lambda folder, binaries: None)
    return tmp_path


def test_what_the_sources_ask_for_and_what_is_not_ours_stays() -> None:
    engine = FakeEngine(images=["r/star/jobs:1", "r/star/jobs:2", "r/star/rootfs:1", "r/other:1"])
    assert prune.prune_storage(engine, ["r/star/jobs:2"]) == ["r/star/jobs:1"]  # type: ignore[arg-type]
    assert engine.images == ["r/star/jobs:2", "r/star/rootfs:1", "r/other:1"]


def test_tags_of_earlier_sources_leave_the_registry(cache: Path) -> None:
    assert prune.prune_registry("127.0.0.1:1", Binaries(cache), ["star/jobs:cpu-new"]) == 2
    left = sorted(str(path.relative_to(cache)) for path in cache.rglob("current"))
    assert left == [TAGS.format("jobs", "cpu-new")]


def test_a_running_registry_is_left_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_cli.images.registry.Registry.answers", lambda self: True)
    with pytest.raises(ImagesError, match="is in use; run `starctl local down` first"):
        prune.prune_registry("127.0.0.1:1", Binaries(cache), [])
    assert len(list(cache.rglob("link"))) == 3
