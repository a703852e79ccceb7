"""A real forge and a real Argo CD. Asked for by `make e2e-promotion` alone: their programs take long to build.

Beside the control plane of the integration tests, whose pods are played, Argo CD's own part is held; with real pods the
story is told by proof_real_pods.py, on the embedded cluster.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.local.controlplane import ControlPlane
from tests.integration.conftest import hub, kubelet, open_control_plane, operator
from tests.support.gitops import Site, open_site
from tests.support.kubectl import Kubectl

__all__ = ["hub", "kubelet", "operator"]


@pytest.fixture(scope="module", params=[False, True], ids=["three-way-diff", "server-side-diff"])
def server_side_diff(request: pytest.FixtureRequest) -> bool:
    """Each of the two ways in which Argo CD compares."""
    return bool(request.param)


@pytest.fixture(scope="module")
def control_plane(server_side_diff: bool) -> Iterator[ControlPlane]:
    """One of its own for each of them: the environments begin empty."""
    with open_control_plane() as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture(scope="module")
def site(
    server_side_diff: bool, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The layout in Git and in Argo CD."""
    folder: Path = tmp_path_factory.mktemp("site")
    with open_site(folder, control_plane.kubeconfig, server_side_diff=server_side_diff) as opened:
        yield opened
