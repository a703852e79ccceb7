"""The artifact contract between operator and jobs, on a real S3 server: what one side writes the other can check alone.

The checks here use nothing of `star_jobs.storage`: only boto3, hashlib and the wire format.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from star_contracts.artifact import ArtifactRef, Manifest, artifact_uri, memo_uri, work_uri
from star_contracts.base import canonical_json, value_hash
from star_contracts.job import ComputeNeighbours, PrepareDataset
from star_contracts.settings import DatasetFormat, LeakageRules, NeighbourSettings, TaskSettings
from star_jobs.storage import ObjectStore
from tests.support.jobs import JobRunner, environment
from tests.support.movielens import movielens_100k
from tests.support.s3 import S3Server, start_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture(scope="module")
def client(s3: S3Server) -> "S3Client":
    session = boto3.session.Session(aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key)
    return session.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1")


@pytest.fixture(scope="module")
def chain(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactRef, ArtifactRef]:
    """A dataset and the neighbours made from it, by real jobs."""
    with environment(s3.environment()):
        store = ObjectStore(s3.store())
    jobs = JobRunner(s3, store, s3.new_uri("chain"), tmp_path_factory.mktemp("chain"))
    for path in movielens_100k().iterdir():
        store.upload(path, f"{jobs.uri}/source/{path.name}")
    prepare = PrepareDataset(
        format=DatasetFormat.MOVIELENS,
        source=f"{jobs.uri}/source",
        tasks=TaskSettings(candidates=5, train=20, test=4),
        leakage=LeakageRules(),
    )
    dataset = jobs.run(prepare).artifact
    return dataset, jobs.run(ComputeNeighbours(dataset=dataset, neighbours=NeighbourSettings(k=5))).artifact


def read(client: "S3Client", uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def names(client: "S3Client", uri: str) -> set[str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return {item["Key"].removeprefix(f"{prefix}/") for page in pages for item in page.get("Contents", [])}


def test_the_digest_is_the_sha256_of_the_manifest_as_it_is_stored(
    client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]
) -> None:
    for ref in chain:
        assert ref.digest == "sha256:" + hashlib.sha256(read(client, f"{ref.uri}/manifest.json")).hexdigest()


def test_the_manifest_is_canonical_json(client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]) -> None:
    for ref in chain:
        data = read(client, f"{ref.uri}/manifest.json")
        assert data == canonical_json(json.loads(data))
        assert Manifest.model_validate_json(data).canonical() == data


def test_the_manifest_names_every_file_and_no_other(client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]) -> None:
    for ref in chain:
        manifest = Manifest.model_validate_json(read(client, f"{ref.uri}/manifest.json"))
        assert names(client, ref.uri) == {file.path for file in manifest.files} | {"manifest.json"}
        assert [file.path for file in manifest.files] == sorted(file.path for file in manifest.files)
        for file in manifest.files:
            data = read(client, f"{ref.uri}/{file.path}")
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


def test_lineage_is_in_the_manifest(client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]) -> None:
    dataset, neighbours = chain
    manifest = Manifest.model_validate_json(read(client, f"{neighbours.uri}/manifest.json"))
    assert manifest.inputs == {"dataset": dataset.digest}


def test_dataset_layout_is_the_documented_one(client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]) -> None:
    assert names(client, chain[0].uri) == {
        "interactions.parquet",
        "items.jsonl",
        "manifest.json",
        "stats.json",
        "tables/item.jsonl",
        "tables/review.jsonl",
        "tables/user.jsonl",
        "tasks/test.jsonl",
        "tasks/train.jsonl",
        "truth/test.jsonl",
        "truth/train.jsonl",
    }
    documented = (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text()
    for word in ("`items.jsonl`", "tasks/{train,test}.jsonl", "truth/{train,test}.jsonl", "`interactions.parquet`"):
        assert word in documented


def test_no_file_of_the_tasks_holds_the_answers(client: "S3Client", chain: tuple[ArtifactRef, ArtifactRef]) -> None:
    for split in ("train", "test"):
        for line in read(client, f"{chain[0].uri}/tasks/{split}.jsonl").splitlines():
            assert set(json.loads(line)) == {
                "taskId",
                "type",
                "userId",
                "candidates",
                "seed",
                "history",
                "profile",
            }


def test_places_are_where_the_documentation_says() -> None:
    work = value_hash("work")
    assert (
        artifact_uri("s3://star", "demo", "RecDataset", "ml", 1, "prepare") == "s3://star/demo/recdataset/ml/1/prepare"
    )
    assert work_uri("s3://star", "demo", "TeacherRun", "t", "generate", work).startswith(
        "s3://star/demo/teacherrun/t/work/generate-"
    )
    assert (
        memo_uri("s3://star/p", "demo", "SFTJob", "train", work)
        == f"s3://star/p/demo/sftjob/memo/train-{work[7:]}.json"
    )


def test_equal_values_have_equal_hashes_whatever_their_order() -> None:
    assert value_hash({"a": 1, "b": [1, 2]}) == value_hash({"b": [1, 2], "a": 1})
    assert value_hash({"a": 1}) != value_hash({"a": 2})
