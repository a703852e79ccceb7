"""Real API servers for tests: etcd and kube-apiserver as processes, with RBAC on, in a folder that is thrown away.

@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with start_control_plane() as running:
        yield running
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_cli.local.controlplane import ControlPlane, ControlPlaneSettings
from star_cli.local.paths import Layout


@contextmanager
def start_control_plane(*, controllers: bool = False) -> Iterator[ControlPlane]:
    """A fresh control plane: etcd and kube-apiserver, and with `controllers` the controller-manager and scheduler.

    `.kubeconfig` is the administrator's; `.user_kubeconfig(...)` and `.service_account_kubeconfig(...)` make others.
    Without controllers there is no garbage collection, no default ServiceAccount, and a deleted namespace stays in
    Terminating: give each test a namespace of its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="star-control-plane-"))
    control_plane = ControlPlane(Layout(folder), ControlPlaneSettings(controllers=controllers))
    try:
        control_plane.start()
        yield control_plane
    finally:
        control_plane.stop()
        shutil.rmtree(folder, ignore_errors=True)
