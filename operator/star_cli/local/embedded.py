"""The embedded cluster: everything as processes of this machine, in the order in which it starts and ends."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from star_cli.local import cleanup, node, ports, services
from star_cli.local.binaries import Binaries
from star_cli.local.cgroups import ControlGroup
from star_cli.local.controlplane import ControlPlane, ControlPlaneSettings
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_atomic
from star_cli.local.network import HostNetwork, PodNetwork, choose_network, read_sysctls, write_sysctls
from star_cli.local.nodeconfig import NODE_PORTS, NodePlan
from star_cli.local.paths import Layout
from star_cli.local.progress import Reporter
from star_cli.local.versions import CONTROL_PLANE, CONTROLLERS, EMBEDDED


class State(BaseModel):
    """What was found and chosen before anything was started: enough to repair, and to put everything back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cidr: str
    ports: dict[str, int]
    sysctls: dict[str, str]
    kubelet_folder_is_ours: bool


@dataclass
class Embedded:
    """One embedded cluster, by its state folder's layout."""

    layout: Layout
    binaries: Binaries
    reporter: Reporter

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self.layout.root.name

    @property
    def node_name(self) -> str:
        """Name of the node and of the CNI network."""
        return f"star-{self.name}"

    @property
    def process_names(self) -> tuple[str, ...]:
        """Every process of the cluster, in the order of their start."""
        return (*CONTROL_PLANE, *CONTROLLERS, *node.PROCESSES, *services.PROCESSES)

    @cached_property
    def group(self) -> ControlGroup:
        """The control group of everything that runs: of this state folder, whatever other clusters are called."""
        return ControlGroup(f"{self.node_name}-{hashlib.sha256(bytes(self.layout.root)).hexdigest()[:8]}")

    def check(self) -> None:
        """See that the machine can run the cluster, before anything of it is written.

        Raises:
            LocalClusterError: not root, or another cluster has the machine's pod network.
        """
        if os.geteuid() != 0:
            raise LocalClusterError(
                "an embedded cluster runs containers and needs root: use sudo, "
                "or --control-plane-only for an API server without pods"
            )
        if self._known_state() is None:
            host = self._host_network()
            host.refuse_others(str(self.layout.root))
            host.refuse_nodes()

    def up(self) -> None:
        """Have the whole cluster running: start it, or repair what died.

        Raises:
            LocalClusterError: a port or the pod network is taken, or a component does not come up.
        """
        self.binaries.ensure_all(EMBEDDED)
        state = self._state()
        network = PodNetwork(state.cidr)
        with self.reporter.step("pod network and control group"):
            new = self._host_network().up(network, str(self.layout.root))
            write_sysctls({"net/ipv4/ip_forward": "1"})
            cgroups = self.group.create()
            if new:  # pods of the bridge that was here before have lost their network: they start anew
                self.group.kill_pods()
        control_plane = self.control_plane(network, cgroups)
        with self.reporter.step("control plane", "control plane"):
            control_plane.start()
        plan = NodePlan(self.layout, self.node_name, network, state.ports, self.group.path)
        with self.reporter.step("DNS, image registry and S3 server", "services"):
            services.Services(plan, control_plane, self.binaries, cgroups).start()
        with self.reporter.step("node", "node"):
            node.Node(plan, control_plane, self.binaries, cgroups).start()

    def down(self) -> None:
        """End the cluster and remove everything of it but the cache. Goes on where an earlier `down` was cut short."""
        control_plane = ControlPlane(self.layout, binaries=self.binaries)
        with self.reporter.step("end processes"):
            names = [*reversed(self.process_names), *control_plane.processes.names()]
            for name in dict.fromkeys(names):
                control_plane.processes.stop(name)
            self.group.kill()  # shims and containers, and whatever else a component left behind
        with self.reporter.step("remove mounts, network and files"):
            state = self._known_state()
            cleanup.unmount_below(self.layout.root)
            containerd_state = self.layout.root / "containerd" / "state"
            ours = state is not None and state.kubelet_folder_is_ours
            cleanup.remove_strays(self.layout.root, containerd_state, kubelet_folder_is_ours=ours)
            if state is not None:
                self._host_network().down(str(self.layout.root))
                write_sysctls(state.sysctls)
            self.group.remove()
            cleanup.remove_folder(self.layout.root)

    def control_plane(self, network: PodNetwork, cgroups: tuple[Path, ...] = ()) -> ControlPlane:
        """The control plane of the cluster, listening on the bridge's address."""
        settings = ControlPlaneSettings(network.gateway, controllers=True, name=self.node_name, cgroups=cgroups)
        return ControlPlane(self.layout, settings, self.binaries)

    def _host_network(self) -> HostNetwork:
        return HostNetwork(self.binaries.ensure("ip"), self.binaries.ensure("nft"))

    def _known_state(self) -> State | None:
        try:
            return State.model_validate_json((self.layout.root / "embedded.json").read_text())
        except (FileNotFoundError, ValidationError, json.JSONDecodeError):
            return None

    def _state(self) -> State:
        """The state of an earlier `up`, or a new one, written before anything is changed on the machine."""
        known = self._known_state()
        if known is not None:
            return known
        made = State(
            cidr=choose_network(self._host_network().routes()).cidr,
            ports=ports.pick(NODE_PORTS),
            sysctls=read_sysctls(),
            kubelet_folder_is_ours=not cleanup.KUBELET_FOLDER.exists(),
        )
        self.layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self.layout.root / "embedded.json", made.model_dump_json(indent=2))
        return made
