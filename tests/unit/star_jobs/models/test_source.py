"""Where weights come from."""

from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.job import ImportModel, ModelSource
from star_contracts.result import ErrorClass, ExitCode
from star_jobs.models.import_gguf import require_gguf
from star_jobs.models.source import hub_failure, inputs_of, split_hub_id
from star_jobs.storage import ObjectStore
from tests.support.jobs import JobRunner


def test_hub_ids() -> None:
    assert split_hub_id("Qwen/Qwen3-8B") == ("Qwen/Qwen3-8B", None)
    assert split_hub_id("Qwen/Qwen3-8B@v1") == ("Qwen/Qwen3-8B", "v1")


def test_only_artifacts_are_inputs() -> None:
    ref = ArtifactRef(uri="s3://star/a", digest="sha256:" + "1" * 64)
    assert inputs_of(ModelSource(artifact=ref)) == {"model": ref.digest}
    assert inputs_of(ModelSource(hub="a/b")) == {}


class RepositoryNotFoundError(Exception):
    """As `huggingface_hub` names it."""


@pytest.mark.bad_input
def test_what_the_hub_does_not_have() -> None:
    failure = hub_failure("a/b", RepositoryNotFoundError("404"))
    assert (failure.reason, failure.error_class) == (Reason.INVALID_MODEL, ErrorClass.TERMINAL)
    assert hub_failure("a/b", ConnectionError("reset")).error_class is ErrorClass.RETRYABLE


@pytest.mark.bad_input
def test_a_source_that_is_no_gguf(store: ObjectStore, jobs: JobRunner, uri: str) -> None:
    store.put_bytes(f"{uri}/model.gguf", b"PK\x03\x04 a zip file")
    ended = jobs.run(ImportModel(source=f"{uri}/model.gguf"))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "InvalidModel")
    assert "not a GGUF file" in ended.error.message


@pytest.mark.bad_input
@pytest.mark.case("changed-source")
def test_a_file_other_than_the_one_that_was_hashed(store: ObjectStore, jobs: JobRunner, uri: str) -> None:
    store.put_bytes(f"{uri}/model.gguf", b"GGUF another")
    hashed = sha256_digest(b"GGUF the one")
    ended = jobs.run(ImportModel(source=f"{uri}/model.gguf"), inputs={"source": hashed})
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "SourceChanged")
    assert hashed in ended.error.message


@pytest.mark.bad_input
def test_a_source_that_is_not_there(jobs: JobRunner, uri: str) -> None:
    ended = jobs.run(ImportModel(source=f"{uri}/nothing.gguf"))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "ArtifactNotFound")


def test_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00")
    require_gguf(file, "s3://star/m.gguf")
