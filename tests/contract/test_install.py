"""The chart's life on a real API server: installed, upgraded, uninstalled; STAR resources outlive it."""

import json
from collections.abc import Iterator

import pytest

from star_cli.local.controlplane import ControlPlane
from star_operator.api.crd import file_stem
from star_operator.api.kinds import KINDS
from tests.support.cluster import start_control_plane
from tests.support.helm import CHART, helm
from tests.support.kubectl import Kubectl

DATASET = {
    "apiVersion": "star.recsys.dev/v1alpha1",
    "kind": "RecDataset",
    "metadata": {"name": "precious", "namespace": "default"},
    "spec": {"source": {"format": "MovieLens", "uri": "s3://star/raw/x"}},
}


@pytest.fixture(scope="module")
def fresh() -> Iterator[ControlPlane]:
    """An API server of its own: helm does not take over CRDs that somebody else has applied."""
    with start_control_plane() as running:
        yield running


def test_install_upgrade_uninstall(fresh: ControlPlane) -> None:
    kubectl = Kubectl(fresh.kubeconfig)
    where = ("--kubeconfig", str(fresh.kubeconfig), "--namespace", "star-system")
    install = ("upgrade", "--install", "star-operator", str(CHART), "--create-namespace", *where)

    helm(*install)
    kubectl.run("wait", "--for=condition=Established", *(f"crd/{file_stem(kind.INFO)}" for kind in KINDS))
    kubectl.run("create", "-f", "-", stdin=json.dumps(DATASET))

    helm(*install, "--set", "settings.workers=3")
    assert "workers: 3" in kubectl.get("configmap", "star-operator", "star-system")["data"]["settings.yaml"]

    helm("uninstall", "star-operator", *where)
    assert kubectl.run("get", "deployments,services,configmaps", "-n", "star-system", "-o", "name").split() == []
    assert kubectl.run("get", "clusterroles", "-l", "app.kubernetes.io/part-of=star", "-o", "name") == ""
    assert kubectl.get("recdataset", "precious")["spec"]["source"]["format"] == "MovieLens"

    helm(*install)  # and it finds its resources again


def test_the_install_manifest_does_without_helm(fresh: ControlPlane) -> None:
    kubectl = Kubectl(fresh.kubeconfig)
    manifest = CHART.parents[1] / "manifests" / "install.yaml"
    applied = kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(manifest))
    assert "deployment.apps/star-operator serverside-applied" in applied
