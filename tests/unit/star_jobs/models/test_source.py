"""Where weights come from."""

import errno
from types import SimpleNamespace

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.job import ImportModel, ModelSource
from star_contracts.result import ErrorClass, ExitCode
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


@pytest.mark.bad_input
def test_a_disk_that_is_full_is_no_fault_of_the_hub() -> None:
    failure = hub_failure("a/b", OSError(errno.ENOSPC, "No space left on device"))
    assert failure.reason is Reason.OUT_OF_DISK


@pytest.mark.bad_input
@pytest.mark.parametrize(("status", "error_class"), [(401, "Terminal"), (403, "Terminal"), (503, "Retryable")])
def test_what_the_hub_answers(status: int, error_class: str) -> None:
    error = ConnectionError("the hub said so")
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    assert hub_failure("a/b", error).error_class == error_class
