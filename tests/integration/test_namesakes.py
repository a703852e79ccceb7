"""A resource that is created anew before, or without, the collection of what its namesake made."""

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, wait_phase


@pytest.mark.parametrize("cascade", ["orphan", "background"])
def test_a_resource_that_is_created_anew_does_its_own_work(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str, cascade: str
) -> None:
    kubelet.script = lambda spec, pod: succeed(spec, pod).model_copy(
        update={"artifact": ArtifactRef(uri=spec.output, digest=value_hash(spec.producer.uid))}
    )
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    before = kubectl.get("recdataset", "a", namespace)["metadata"]["uid"]
    kubectl.run("delete", "recdataset", "a", "-n", namespace, f"--cascade={cascade}")
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    found = wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    resource = kubectl.get("recdataset", "a", namespace)
    assert resource["metadata"]["uid"] != before
    assert resource["status"]["artifact"]["digest"] == value_hash(resource["metadata"]["uid"]), found
    [owner] = kubectl.get("job", "a-rds-1-prepare", namespace)["metadata"]["ownerReferences"]
    assert owner["uid"] == resource["metadata"]["uid"]
