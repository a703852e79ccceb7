from typing import Any

import pytest

from star_cli.demo.importing import checkpoint_object, ended, import_objects, installed_settings, present
from star_cli.errors import StarctlError
from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.job import JobSpec
from star_operator.api.checkpoint import Checkpoint
from tests.support.operator import settings_without_images

SETTINGS = settings_without_images(1, "https://hub.test")
SHA = "ab" * 32
DIGEST = "sha256:" + "0" * 64


class Api:
    def __init__(self, **objects: dict[str, Any]) -> None:
        self.objects = objects

    def get(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path.rpartition("/")[2])


def test_the_job_has_the_operators_shape_and_runs_the_import_stage() -> None:
    config_map, job = import_objects("s3://star/raw/m.gguf", SHA, "ns", SETTINGS)
    spec = JobSpec.model_validate_json(config_map["data"]["job.json"])
    assert spec.stage.stage == "import-model"
    assert spec.memo is not None, "equal work is reused"
    assert spec.progress is None, "there is no resource yet whose status could tell of it"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["star-job"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert "ownerReferences" not in job["metadata"], "an owner that does not exist would have it collected"


def test_another_file_is_other_work() -> None:
    specs = [
        JobSpec.model_validate_json(import_objects("s3://star/m.gguf", sha, "ns", SETTINGS)[0]["data"]["job.json"])
        for sha in (SHA, "cd" * 32)
    ]
    assert specs[0].producer.work_hash != specs[1].producer.work_hash


def test_the_checkpoint_remembers_its_file() -> None:
    ref = ArtifactRef(uri="s3://star/base", digest=DIGEST)
    body = checkpoint_object(ref, SHA, "ns")
    Checkpoint.parse(body)
    assert present(Api(base=body), "ns", SHA) == ref
    assert present(Api(), "ns", SHA) is None
    with pytest.raises(StarctlError, match="was made from another file"):
        present(Api(base=body), "ns", "cd" * 32)


def pod(**terminated: Any) -> dict[str, Any]:
    state = {"terminated": terminated} if terminated else {"running": {}}
    return {
        "metadata": {"name": "p", "namespace": "ns"},
        "status": {"containerStatuses": [{"name": "main", "state": state}]},
    }


def test_the_result_is_read_from_the_termination_message() -> None:
    assert ended(pod()) is None
    assert ended({"metadata": {"name": "p"}, "status": {}}) is None
    message = f'{{"artifact": {{"uri": "s3://star/base", "digest": "{DIGEST}"}}, "bytes": 5}}'
    result = ended(pod(exitCode=0, message=message))
    assert result is not None
    assert result.artifact == ArtifactRef(uri="s3://star/base", digest=DIGEST)
    with pytest.raises(StarctlError, match=r"ended without a word \(exit code 137 OOMKilled\).*logs p"):
        ended(pod(exitCode=137, reason="OOMKilled"))


def test_settings_are_those_of_the_installed_operator() -> None:
    import yaml

    text = yaml.safe_dump(SETTINGS.to_json_dict())
    found = installed_settings(Api(**{"star-operator": {"data": {"settings.yaml": text}}}))
    assert value_hash(found.to_json_dict()) == value_hash(SETTINGS.to_json_dict())
    with pytest.raises(StarctlError, match="starctl install"):
        installed_settings(Api())
    with pytest.raises(StarctlError, match="of another version"):
        installed_settings(Api(**{"star-operator": {"data": {"settings.yaml": "nonsense: 1"}}}))
