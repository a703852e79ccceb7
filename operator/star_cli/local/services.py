"""DNS, the image registry and the S3 server of the embedded cluster, as processes of this machine."""

from dataclasses import dataclass
from pathlib import Path

from star_cli.local import nodeconfig, ports
from star_cli.local.binaries import Binaries
from star_cli.local.controlplane import ControlPlane
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_if_changed
from star_cli.local.manifests import BUCKET, S3_PORT, cluster_manifests, store_secret
from star_cli.local.node import answers
from star_cli.local.nodeconfig import REGISTRY_PORT, NodePlan
from star_cli.local.objectstore import ObjectStore
from star_cli.local.pki import Subject
from star_cli.local.processes import ProcessSpec

PROCESSES = ("coredns", "registry", "registry-pods", "versitygw")
_READY_SECONDS = 60.0
_LOOPBACK = "127.0.0.1"


@dataclass
class Services:
    """What pods need beside Kubernetes itself; the bridge and the control plane are up before `start`."""

    plan: NodePlan
    control_plane: ControlPlane
    binaries: Binaries
    cgroups: tuple[Path, ...]

    def __post_init__(self) -> None:
        self.processes = self.control_plane.processes

    @property
    def object_store(self) -> ObjectStore:
        """The S3 server: on loopback for this machine's programs, on the bridge for pods."""
        addresses = (_LOOPBACK, self.plan.network.gateway)
        return ObjectStore(self.plan.layout, S3_PORT, addresses, self.binaries, self.cgroups)

    def start(self) -> None:
        """Have DNS, registry and S3 running, with their Services in the cluster; repairs what died.

        Raises:
            LocalClusterError: one does not come up, or a program of another has its port.
        """
        for name, port in (("registry", REGISTRY_PORT), ("versitygw", S3_PORT)):
            if not self.processes.alive(name) and not ports.is_free(_LOOPBACK, port):
                raise LocalClusterError(f"port {port} is taken by another program, and the {name} needs it: free it")
        self._write_files()
        for spec in self.specs():
            self.processes.ensure(spec)
        self.object_store.start(BUCKET)
        gateway = self.plan.network.gateway
        self._wait("registry", f"http://{_LOOPBACK}:{REGISTRY_PORT}/v2/")
        self._wait("registry-pods", f"http://{gateway}:{REGISTRY_PORT}/v2/")
        self._wait("coredns", f"http://127.0.0.1:{self.plan.ports['coredns-health']}/health")
        credentials = self.object_store.credentials
        api = self.control_plane.api()
        try:
            api.apply_all(cluster_manifests(gateway, self.plan.ports["coredns"]))
            api.apply(store_secret("default", credentials.access_key, credentials.secret_key))
        finally:
            api.close()

    def specs(self) -> list[ProcessSpec]:
        """DNS and the registry, twice over one folder: loopback for pushes and the node, read-only for pods."""
        config = self.plan.layout.config
        arguments = {
            "coredns": ("coredns", ["-conf", str(config / "Corefile")], config / "Corefile"),
            "registry": ("registry", ["serve", str(config / "registry.yaml")], config / "registry.yaml"),
            "registry-pods": ("registry", ["serve", str(config / "registry-pods.yaml")], config / "registry-pods.yaml"),
        }
        return [
            ProcessSpec(
                name,
                (str(self.binaries.ensure(program)), *options),
                env={"OTEL_TRACES_EXPORTER": "none"} if program == "registry" else {},
                files=(file,),
                cgroups=self.cgroups,
            )
            for name, (program, options, file) in arguments.items()
        ]

    def _write_files(self) -> None:
        config = self.plan.layout.config
        # pushed images are kept in the cache: making them again takes minutes, and their tags are content hashes
        folder = self.binaries.cache / "registry"
        folder.mkdir(parents=True, exist_ok=True)
        local = nodeconfig.registry_config(f"{_LOOPBACK}:{REGISTRY_PORT}", folder, read_only=False)
        pods = nodeconfig.registry_config(f"{self.plan.network.gateway}:{REGISTRY_PORT}", folder, read_only=True)
        write_if_changed(config / "registry.yaml", local, mode=0o600)
        write_if_changed(config / "registry-pods.yaml", pods, mode=0o600)
        write_if_changed(config / "Corefile", nodeconfig.corefile(self.plan))
        self.control_plane.component_kubeconfig("coredns", Subject("system:coredns"))

    def _wait(self, name: str, url: str) -> None:
        self.processes.wait_ready(name, lambda: answers(url), _READY_SECONDS)
