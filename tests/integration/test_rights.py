"""An operator of named namespaces: it works with Roles there, has no rights elsewhere, and needs none."""

from pathlib import Path

from star_cli.local.controlplane import ControlPlane
from tests.integration.conftest import RIGHTS
from tests.support.fakekubelet import FakeKubelet
from tests.support.helm import render
from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, star, status, wait_phase


def test_an_operator_of_named_namespaces_works_there_alone(
    kubectl: Kubectl, control_plane: ControlPlane, kubelet: FakeKubelet, hub: str, namespace: str, tmp_path: Path
) -> None:
    named = ("--set", f"watchNamespaces={{{namespace}}}", "--set", "fullnameOverride=named")
    kubectl.apply(*(obj for obj in render("--set", "crds.install=false", *named) if obj["kind"] in RIGHTS))
    kubectl.run("create", "namespace", f"{namespace}-not")
    kubectl.apply(star("RecDataset", f"{namespace}-not", "d", DATASET))
    kubeconfig = control_plane.service_account_kubeconfig("star-system", "named")
    operator = OperatorProcess(kubeconfig, tmp_path, hub, lease="named", namespaces=(namespace,))
    operator.start()
    try:
        kubectl.apply(star("RecDataset", namespace, "d", DATASET))
        wait_phase(kubectl, "recdataset", namespace, "d", "Succeeded")
        assert "phase" not in status(kubectl, "recdataset", f"{namespace}-not", "d")
        assert kubectl.get("lease", "named", "star-system")["spec"]["holderIdentity"]
    finally:
        operator.stop()
    lines = operator.log.read_text().splitlines()
    assert [line for line in lines if "pass crashed" in line or "orbidden" in line or "the watches ended" in line] == []
