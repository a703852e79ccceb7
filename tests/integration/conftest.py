"""The operator against a real API server with real controllers; only the kubelet is played (support/fakekubelet.py)."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from star_cli.local.controlplane import ControlPlane
from star_operator.api.crd import crd
from star_operator.api.kinds import KINDS
from tests.support.cluster import start_control_plane
from tests.support.fakekubelet import FakeKubelet, fake_kubelet
from tests.support.helm import render
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.rights import OPERATOR, keep_audit_log
from tests.support.stubs3 import Reply, stub_s3

RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")

RBAC_KINDS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@contextmanager
def open_control_plane() -> Iterator[ControlPlane]:
    """A control plane with our kinds, and the chart's rights for the operator."""
    with start_control_plane(controllers=True, audit_user=OPERATOR) as running:
        kubectl = Kubectl(running.kubeconfig)
        kubectl.apply(*(crd(kind) for kind in KINDS))
        kubectl.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        kubectl.run("create", "namespace", "star-system")
        kubectl.apply(*(obj for obj in render("--set", "crds.install=false") if obj["kind"] in RIGHTS))
        yield running
        keep_audit_log(running.audit_log)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with open_control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture
def kubelet(control_plane: ControlPlane) -> Iterator[FakeKubelet]:
    with fake_kubelet(control_plane.kubeconfig) as running:
        yield running
        assert running.errors == []


@pytest.fixture(scope="session")
def hub() -> Iterator[str]:
    """A hub where every name stands for one commit."""
    with stub_s3(Reply(200, '{"sha": "' + "c0ffee0000" * 4 + '"}', "application/json")) as stub:
        yield stub.url


@pytest.fixture
def operator(control_plane: ControlPlane, hub: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator with the chart's own rights: what it may not do fails here."""
    process = OperatorProcess(control_plane.service_account_kubeconfig("star-system", "star-operator"), tmp_path, hub)
    process.start()
    yield process
    process.stop()
    lines = process.log.read_text().splitlines()
    assert [line for line in lines if "pass crashed" in line or "orbidden: User" in line] == []


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    eventually(lambda: "default" in kubectl.run("get", "sa", "-n", name), "the namespace has its ServiceAccount")
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    metadata = {"name": "star-store", "namespace": name}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})
    return name
