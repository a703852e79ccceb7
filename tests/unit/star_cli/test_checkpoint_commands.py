"""`starctl checkpoint`: what it prints, what it writes down, and what it refuses."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from star_cli.checkpoints import hub, record
from star_cli.checkpoints.cli import app
from star_cli.checkpoints.keys import write_pair
from star_cli.errors import StarctlError
from star_contracts.artifact import ArtifactRef
from star_contracts.proofs import PublicKey
from star_jobs.proofs.keys import sign, signing_key, verifier
from star_jobs.storage import ObjectStore
from star_operator.api.checkpoint import Checkpoint, Lineage
from tests.support.memorystore import MemoryStore, Objects
from tests.support.training import write_model

REF = ArtifactRef(uri="s3://star/x", digest="sha256:" + "a" * 64)
LINEAGE = Lineage(producer_kind="SFTJob", producer_name="student", producer_uid="u", inputs={"dataset": REF.digest})


def test_a_record_keeps_its_lineage_through_a_folder(tmp_path: Path) -> None:
    record.write(record.manifest(("team", "student"), REF, LINEAGE, "hf://org/name@1"), tmp_path)
    assert record.lineage_of(tmp_path, REF.digest) == LINEAGE
    body = yaml.safe_load((tmp_path / record.FILE).read_text())
    assert Checkpoint.parse(body).spec.digest == REF.digest
    assert body["metadata"]["annotations"] == {"star.recsys.dev/source": "hf://org/name@1"}


def test_without_a_record_there_is_no_lineage(tmp_path: Path) -> None:
    assert record.lineage_of(tmp_path, REF.digest) == Lineage()


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "[]", "kind: Pod", "{", "apiVersion: v1\nspec: 3"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / record.FILE).write_text(text)
    with pytest.raises(StarctlError, match="is no Checkpoint"):
        record.lineage_of(tmp_path, REF.digest)


@pytest.mark.bad_input
def test_a_record_of_another_checkpoint_is_refused_with_both_digests(tmp_path: Path) -> None:
    record.write(record.manifest(("team", "student"), REF, LINEAGE), tmp_path)
    other = "sha256:" + "b" * 64
    with pytest.raises(StarctlError, match=f"{REF.digest}, and the checkpoint beside it is {other}"):
        record.lineage_of(tmp_path, other)


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Objects:
    """A store in memory in place of the real one."""
    found = Objects()

    def connect(*_: Any, **__: Any) -> ObjectStore:
        return MemoryStore(found)

    monkeypatch.setattr("star_jobs.storage.ObjectStore", connect)
    return found


def test_a_folder_is_imported_without_a_cluster_and_its_checkpoint_printed(tmp_path: Path, objects: Objects) -> None:
    write_model(tmp_path)
    done = CliRunner().invoke(app, ["import", str(tmp_path), "base", "--namespace", "team", "--store", "s3://star"])
    assert done.exit_code == 0, done.output
    checkpoint = Checkpoint.parse(yaml.safe_load(done.stdout))
    assert checkpoint.metadata.name == "base"
    assert f"{checkpoint.spec.uri}/manifest.json" in objects


@pytest.mark.bad_input
def test_what_is_neither_a_folder_nor_a_model_is_refused(tmp_path: Path, objects: Objects) -> None:
    for source, sentence in ((tmp_path / "none", "is no folder"), (tmp_path, "config.json")):
        done = CliRunner().invoke(app, ["import", str(source), "base", "--store", "s3://star"])
        assert isinstance(done.exception, StarctlError)
        assert sentence in str(done.exception)
    assert not objects


def test_a_new_pair_signs_and_verifies_and_is_never_written_over(tmp_path: Path) -> None:
    private, public = write_pair(tmp_path / "keys")
    assert private.stat().st_mode & 0o077 == 0
    key = signing_key(private, None)
    assert key is not None
    assert verifier(PublicKey(name="k", pem=public.read_text())).verifies(sign(key, b"data"), b"data")
    with pytest.raises(StarctlError, match="is there already"):
        write_pair(tmp_path / "keys")


class TestHub:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the hub answers, by path."""
        found: dict[str, Any] = {}
        client = httpx.Client

        def answer(request: httpx.Request) -> httpx.Response:
            content = found.get(request.url.path)
            if content is None:
                return httpx.Response(404)
            return (
                httpx.Response(200, content=content)
                if isinstance(content, bytes)
                else httpx.Response(200, json=content)
            )

        monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
        monkeypatch.setattr(
            "star_cli.checkpoints.hub.httpx.Client",
            lambda **options: client(transport=httpx.MockTransport(answer), **options),
        )
        return found

    def test_a_branch_is_pinned_and_only_the_models_files_are_taken(
        self, answers: dict[str, Any], tmp_path: Path
    ) -> None:
        files = (
            "config.json",
            "model.safetensors",
            "README.md",
            "../evil.json",
            "onnx/model.json",
            "pytorch_model.bin",
        )
        siblings = [{"rfilename": name} for name in files]
        answers["/api/models/org/name/revision/main"] = {"sha": "c0ffee", "siblings": siblings}
        for name in files[:2]:
            answers[f"/org/name/resolve/c0ffee/{name}"] = name.encode()
        assert hub.download("org/name", tmp_path) == "org/name@c0ffee"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            "config.json": b"config.json",
            "model.safetensors": b"model.safetensors",
        }

    @pytest.mark.bad_input
    def test_what_the_hub_does_not_have_is_named(self, answers: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(StarctlError, match=r"the hub at https://hub\.example has no org/none"):
            hub.download("org/none", tmp_path)
        answers["/api/models/org/odd/revision/main"] = ["no", "model"]
        with pytest.raises(StarctlError, match="answers as no hub does"):
            hub.download("org/odd", tmp_path)
