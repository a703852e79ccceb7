"""Real API servers for tests: etcd and kube-apiserver, RBAC on, in a folder that is thrown away.

They end with the test run, even where it is killed. Start them in the main thread: they end with the thread.

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
def start_control_plane(*, controllers: bool = False, audit_user: str = "") -> Iterator[ControlPlane]:
    """A fresh control plane: etcd and kube-apiserver, and with `controllers` the controller-manager and scheduler.

    `.kubeconfig` is the administrator's; `.user_kubeconfig(...)` and `.service_account_kubeconfig(...)` make others.
    Without controllers there is no garbage collection, no default ServiceAccount, and a deleted namespace stays in
    Terminating: give each test a namespace of its own. With `audit_user`, `.audit_log` has that one's requests.
    """
    folder = Path(tempfile.mkdtemp(prefix="star-control-plane-"))
    settings = ControlPlaneSettings(controllers=controllers, ends_with_parent=True, audit_user=audit_user)
    control_plane = ControlPlane(Layout(folder), settings)
    try:
        control_plane.start()
        yield control_plane
    finally:
        control_plane.stop()
        shutil.rmtree(folder, ignore_errors=True)
