"""The one node of the embedded cluster: containerd, kubelet and kube-proxy on this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx

from star_cli.local import nodeconfig
from star_cli.local.binaries import Binaries
from star_cli.local.controlplane import ControlPlane
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_if_changed
from star_cli.local.kubeapi import KubeApi, object_path
from star_cli.local.nodeconfig import FAKE_CAPACITY, NODE_LABELS, SANDBOX_IMAGE, NodePlan
from star_cli.local.oci import single_program_image
from star_cli.local.pki import Subject
from star_cli.local.processes import ProcessSpec

PROCESSES = ("containerd", "kubelet", "kube-proxy")
_READY_SECONDS = 90.0
_CNI_PLUGINS = ("bridge", "host-local", "loopback")
_LINKED = ("containerd", "ctr", "containerd-shim-runc-v2", "runc")


@dataclass
class Node:
    """Containerd, kubelet and kube-proxy; the control plane is up before `start`."""

    plan: NodePlan
    control_plane: ControlPlane
    binaries: Binaries
    cgroups: tuple[Path, ...]

    def __post_init__(self) -> None:
        self.processes = self.control_plane.processes

    def start(self) -> None:
        """Have the node registered, Ready, labelled and with its GPU capacity; repairs what died.

        Raises:
            LocalClusterError: a component does not come up; the end of its log is in the message.
        """
        self._write_files()
        specs = self.specs()
        self.processes.ensure(specs["containerd"])
        self.processes.wait_ready("containerd", self._containerd_answers, _READY_SECONDS)
        self._import_sandbox_image()
        self.processes.ensure(specs["kubelet"])
        self.processes.ensure(specs["kube-proxy"])
        api = self.control_plane.api()
        try:
            self.processes.wait_ready("kubelet", lambda: self._kubelet_ready(api), _READY_SECONDS)
            dress_node(api, self.plan.node_name)
        finally:
            api.close()

    def specs(self) -> dict[str, ProcessSpec]:
        """The node's processes, by name; their files exist already."""
        plan, layout = self.plan, self.plan.layout
        config = layout.config
        kubelet = [
            f"--config={config / 'kubelet.yaml'}",
            f"--kubeconfig={layout.kubeconfigs / 'kubelet.conf'}",
            f"--root-dir={layout.root / 'kubelet'}",
            f"--hostname-override={plan.node_name}",
            f"--node-ip={plan.network.gateway}",
        ]
        return {
            "containerd": self._spec("containerd", ["--config", str(config / "containerd.toml")], "containerd.toml"),
            "kubelet": self._spec("kubelet", kubelet, "kubelet.yaml"),
            "kube-proxy": self._spec("kube-proxy", [f"--config={config / 'kube-proxy.yaml'}"], "kube-proxy.yaml"),
        }

    def _spec(self, name: str, arguments: list[str], file: str) -> ProcessSpec:
        system_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ProcessSpec(
            name,
            (str(self.binaries.ensure(name)), *arguments),
            env={"GOGC": "50", "PATH": f"{self.plan.programs}:{self.binaries.ensure('nft').parent}:{system_path}"},
            files=(self.plan.layout.config / file,),
            cgroups=self.cgroups,
        )

    def _write_files(self) -> None:
        plan, layout = self.plan, self.plan.layout
        files = {
            layout.config / "containerd.toml": nodeconfig.containerd_config(plan),
            layout.config / "registries" / f"localhost:{nodeconfig.REGISTRY_PORT}" / "hosts.toml": (
                nodeconfig.registry_hosts()
            ),
            layout.config / "kubelet.yaml": nodeconfig.kubelet_config(plan),
            layout.config / "kube-proxy.yaml": nodeconfig.kube_proxy_config(plan),
            plan.cni_config / "10-star.conflist": nodeconfig.cni_config(plan),
        }
        for path, content in files.items():
            write_if_changed(path, content)
        _link(self.binaries, plan.cni_programs, _CNI_PLUGINS)
        _link(self.binaries, plan.programs, _LINKED)
        node_user = Subject(f"system:node:{plan.node_name}", ("system:nodes",))
        self.control_plane.component_kubeconfig("kubelet", node_user)
        self.control_plane.component_kubeconfig("kube-proxy", Subject("system:kube-proxy"))
        self.control_plane.server_certificate("kubelet-server", (plan.network.gateway, plan.node_name))

    def _kubelet_ready(self, api: KubeApi) -> bool:
        """Whether the kubelet is well and its node Ready: the node alone may still show the last kubelet's report."""
        url = f"http://127.0.0.1:{self.plan.ports['kubelet-health']}/healthz"
        return answers(url) and node_ready(api, self.plan.node_name)

    def _ctr(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [str(self.binaries.ensure("ctr")), "--address", str(self.plan.layout.containerd_socket)]
        return subprocess.run(
            [*command, "--namespace", "k8s.io", *arguments], input=stdin, capture_output=True, check=False
        )

    def _containerd_answers(self) -> bool:
        return self._ctr("version").returncode == 0

    def _import_sandbox_image(self) -> None:
        listed = self._ctr("images", "list", "--quiet", f"name=={SANDBOX_IMAGE}").stdout.decode()
        if SANDBOX_IMAGE in listed.split():
            return
        image = single_program_image(self.binaries.ensure("pause").read_bytes(), "pause", SANDBOX_IMAGE)
        done = self._ctr("images", "import", "-", stdin=image)
        if done.returncode != 0:
            raise LocalClusterError(f"containerd refuses the sandbox image: {done.stderr.decode().strip()}")


def answers(url: str) -> bool:
    """Whether a local HTTP server answers 200 at `url`."""
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def node_ready(api: KubeApi, name: str) -> bool:
    """Whether node `name` is registered and its last report says Ready."""
    node = api.get(object_path("Node", name))
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def dress_node(api: KubeApi, name: str) -> None:
    """Give the node the H20 pool's labels and a GPU capacity that no device stands behind.

    Extended resources may be set on a node's status by anyone with the right to, and the kubelet keeps what it does not
    know: https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/
    """
    path = object_path("Node", name)
    api.merge(path, {"metadata": {"labels": dict(NODE_LABELS)}})
    capacity = dict(FAKE_CAPACITY)
    api.merge(f"{path}/status", {"status": {"capacity": capacity, "allocatable": capacity}})


def _link(binaries: Binaries, folder: Path, names: tuple[str, ...]) -> None:
    """Links by the programs' plain names: containerd looks its shim and the CNI plugins up by them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        target, link = binaries.ensure(name), folder / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
