"""A real API server that has the CRDs, as the chart ships them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.local.controlplane import ControlPlane
from tests.support.cluster import start_control_plane
from tests.support.kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]
CRDS = ROOT / "charts" / "star-operator" / "resources" / "crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with start_control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    kubectl = Kubectl(control_plane.kubeconfig)
    kubectl.run("apply", "--server-side", "-f", str(CRDS))
    names = [f"crd/{path.stem}" for path in sorted(CRDS.glob("*.yaml"))]
    kubectl.run("wait", "--for=condition=Established", *names, "--timeout=60s")
    return kubectl
