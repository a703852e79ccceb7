"""A real forge and a real Argo CD. Asked for by `make e2e-promotion` alone: their programs take long to build.

Beside the control plane of the integration tests, whose pods are played, Argo CD's own part is held; the storyline with
real pods is on the embedded cluster.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.local.controlplane import ControlPlane
from tests.integration.conftest import control_plane, hub, kubectl, kubelet, operator
from tests.support.gitops import Site, open_site

__all__ = ["control_plane", "hub", "kubectl", "kubelet", "operator"]


@pytest.fixture(scope="module", params=[False, True], ids=["three-way-diff", "server-side-diff"])
def site(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The layout in Git and in Argo CD, with each of the two ways in which Argo CD compares."""
    folder: Path = tmp_path_factory.mktemp("site")
    with open_site(folder, control_plane.kubeconfig, server_side_diff=request.param) as opened:
        yield opened
