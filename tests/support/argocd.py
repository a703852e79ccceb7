"""A real Argo CD beside a cluster: its repository server, application controller and API server as host processes.

They are the cluster's own (`https://kubernetes.default.svc`) by a kubeconfig, as Argo CD's developers run them. Nobody
logs in: the API server listens on loopback and asks for nothing.
https://argo-cd.readthedocs.io/en/stable/developer-guide/running-locally/
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from star_cli.local import ports
from star_cli.local.binaries import Binaries
from star_cli.local.processes import Processes, ProcessSpec
from star_cli.local.versions import ARGOCD
from star_operator.api.argocd import customizations
from tests.support.gitea import User
from tests.support.gomodule import module_folder
from tests.support.kubectl import Kubectl, eventually

NAMESPACE = "argocd"
_HOST = "127.0.0.1"
_PORTS = ("redis", "repositories", "repositories-metrics", "controller-metrics", "server", "server-metrics")
_READY_SECONDS = 180.0
_LOOK_SECONDS = 20
"""How often Argo CD looks at a repository that no webhook tells of."""


@dataclass
class ArgoCD:
    """A running Argo CD."""

    kubectl: Kubectl
    folder: Path
    port: int

    @property
    def webhook(self) -> str:
        """Where a forge tells of a push."""
        return f"http://{_HOST}:{self.port}/api/webhook"

    def cli(self, *arguments: str) -> str:
        """Argo CD's own command line against its own API."""
        command = [str(Binaries().ensure("argocd")), *arguments, "--server", f"{_HOST}:{self.port}", "--plaintext"]
        env = {**os.environ, "HOME": str(self.folder), "ARGOCD_BINARY_NAME": "argocd"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"argocd {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def add_repository(self, url: str, user: User, authority: Path) -> None:
        """Let Argo CD read a repository as a user."""
        host = httpx.URL(url).host
        shutil.copy(authority, self.folder / "tls" / host)
        secret = {"url": url, "type": "git", "username": user.name, "password": user.token}
        labels = {"argocd.argoproj.io/secret-type": "repository"}
        metadata = {"name": f"repository-{secrets.token_hex(4)}", "namespace": NAMESPACE, "labels": labels}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})

    def application(self, name: str) -> dict[str, Any]:
        """An Application as Argo CD's API tells of it."""
        found: dict[str, Any] = json.loads(self.cli("app", "get", name, "--output", "json"))
        return found

    def health(self, name: str) -> str:
        """The Application's health."""
        return str(self.application(name)["status"].get("health", {}).get("status", ""))

    def sync(self, name: str) -> str:
        """Whether the Application is `Synced` or `OutOfSync`."""
        return str(self.application(name)["status"].get("sync", {}).get("status", ""))

    def health_of(self, name: str, kind: str) -> str:
        """The health of the Application's one resource of a kind."""
        rows = self.application(name)["status"].get("resources", [])
        (found,) = (row for row in rows if row["kind"] == kind)
        return str(found.get("health", {}).get("status", ""))

    def wait(self, name: str, *, sync: str = "Synced", health: str = "", seconds: float = 120) -> None:
        """Wait until an Application is as it should be."""
        text = f"Application {name} is {sync} {health}"
        eventually(lambda: self.sync(name) == sync and health in ("", self.health(name)), text, seconds=seconds)


@contextmanager
def run_argocd(folder: Path, kubeconfig: Path, *, server_side_diff: bool = False) -> Iterator[ArgoCD]:
    """An Argo CD over a cluster, with our kinds' health checks and actions, until the end of the block."""
    chosen = ports.pick(_PORTS, _HOST)
    kubectl = Kubectl(kubeconfig)
    running = ArgoCD(kubectl, folder, chosen["server"])
    for name in ("tls", "ssh", "gpg", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _install(kubectl)
    processes = Processes(folder / "records", folder / "logs")
    try:
        for spec in _specs(folder, kubeconfig, chosen, server_side_diff):
            processes.ensure(spec)
        processes.wait_ready("argocd-server", lambda: _answers(running), _READY_SECONDS)
        yield running
    finally:
        for name in reversed(processes.names()):
            processes.stop(name)


def _install(kubectl: Kubectl) -> None:
    """Argo CD's kinds and what it keeps its configuration in."""
    crds = module_folder("github.com/argoproj/argo-cd/v3", ARGOCD) / "manifests" / "crds"
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(crds / "application-crd.yaml"))
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(crds / "appproject-crd.yaml"))
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(crds / "applicationset-crd.yaml"))
    kubectl.run("wait", "--for=condition=Established", "crd/applications.argoproj.io", "--timeout=60s")
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    data = {"argocd-cm": {"timeout.reconciliation": f"{_LOOK_SECONDS}s", **customizations()}}
    data |= {f"argocd-{name}": {} for name in ("rbac-cm", "cmd-params-cm", "tls-certs-cm", "ssh-known-hosts-cm")}
    data |= {"argocd-gpg-keys-cm": {}}
    part_of = {"app.kubernetes.io/part-of": "argocd"}
    kubectl.apply(
        *(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": part_of},
                "data": values,
            }
            for name, values in data.items()
        ),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "argocd-secret", "namespace": NAMESPACE, "labels": part_of},
            "stringData": {"server.secretkey": secrets.token_hex(32)},
        },
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AppProject",
            "metadata": {"name": "default", "namespace": NAMESPACE},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"namespace": "*", "server": "*"}],
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
            },
        },
    )


def _specs(folder: Path, kubeconfig: Path, port: dict[str, int], server_side_diff: bool) -> Iterator[ProcessSpec]:
    program = str(Binaries().ensure("argocd"))
    programs = [Path(program), *(Binaries().ensure(name) for name in ("git", "kustomize"))]
    beside = folder / "bin"  # Argo CD looks for its helpers by their plain names
    beside.mkdir(exist_ok=True)
    for path, name in zip(programs, ("argocd", "git", "kustomize"), strict=True):
        (beside / name).unlink(missing_ok=True)
        (beside / name).symlink_to(path)
    common = {
        "KUBECONFIG": str(kubeconfig),
        "HOME": str(folder),
        "PATH": f"{beside}:{os.environ['PATH']}",
        "TMPDIR": str(folder / "work"),
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_TLS_DATA_PATH": str(folder / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(folder / "ssh"),
        "ARGOCD_GNUPGHOME": str(folder / "gpg"),
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_APPLICATION_CONTROLLER_REPO_SERVER_PLAINTEXT": "true",
        "HOSTNAME": "argocd-application-controller-0",
    }
    yield _redis(folder, beside, port["redis"])
    stores = ("--redis", f"{_HOST}:{port['redis']}")
    repositories = ("--repo-server", f"{_HOST}:{port['repositories']}", "--repo-server-plaintext")
    cluster = ("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE)
    arguments = {
        "argocd-repo-server": (
            *("--address", _HOST, "--port", str(port["repositories"]), "--disable-tls"),
            *("--metrics-address", _HOST, "--metrics-port", str(port["repositories-metrics"]), *stores),
        ),
        "argocd-application-controller": (
            *(*cluster, *stores, *repositories, "--metrics-port", str(port["controller-metrics"])),
            *("--status-processors", "4", "--operation-processors", "4"),
            *(("--server-side-diff-enabled",) if server_side_diff else ()),
        ),
        "argocd-server": (
            *(*cluster, *stores, *repositories, "--insecure", "--disable-auth", "--address", _HOST),
            *("--port", str(port["server"]), "--metrics-port", str(port["server-metrics"])),
        ),
    }
    for name, given in arguments.items():
        env = {**common, "ARGOCD_BINARY_NAME": name}
        yield ProcessSpec(name, (program, *given), env=env, ends_with_parent=True)


def _redis(folder: Path, beside: Path, port: int) -> ProcessSpec:
    """Redis: what the program is follows from the name that it is called by."""
    program = beside / "redis-server"
    program.unlink(missing_ok=True)
    program.symlink_to(Binaries().ensure("redis-check-rdb"))
    memory_only = ("--save", "", "--appendonly", "no", "--dir", str(folder))
    argv = (str(program), "--port", str(port), "--bind", _HOST, *memory_only)
    return ProcessSpec("redis-server", argv, ends_with_parent=True)


def _answers(running: ArgoCD) -> bool:
    try:
        return httpx.get(f"http://{_HOST}:{running.port}/healthz?full=true", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
