"""The operator against a real API server with real controllers; only the kubelet is played (support/fakekubelet.py)."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from star_cli.local.controlplane import ControlPlane
from star_operator.api.crd import crd
from star_operator.api.kinds import KINDS
from tests.support.cluster import start_control_plane
from tests.support.fakekubelet import FakeKubelet, fake_kubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with start_control_plane(controllers=True) as running:
        kubectl = Kubectl(running.kubeconfig)
        kubectl.apply(*(crd(kind) for kind in KINDS))
        kubectl.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture
def kubelet(control_plane: ControlPlane) -> Iterator[FakeKubelet]:
    with fake_kubelet(control_plane.kubeconfig) as running:
        yield running
        assert running.errors == []


@pytest.fixture
def operator(control_plane: ControlPlane, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(control_plane.kubeconfig, tmp_path)
    process.start()
    yield process
    process.stop()
    crashes = [line for line in process.log.read_text().splitlines() if "pass crashed" in line]
    assert crashes == []


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    eventually(lambda: "default" in kubectl.run("get", "sa", "-n", name), "the namespace has its ServiceAccount")
    return name


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> dict[str, object]:
    text = Path(request.param).read_text()
    loaded: dict[str, object] = yaml.safe_load(text)
    return loaded
