"""`starctl local`: which kind of local cluster there is, and what `up`, `status` and `down` mean for it."""

import json
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from star_cli.host.facts import docker_reachable
from star_cli.host.needs import Purpose
from star_cli.host.prepare import prepare_host
from star_cli.local.binaries import Binaries
from star_cli.local.controlplane import ControlPlane, ControlPlaneSettings
from star_cli.local.embedded import Embedded
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import locked, write_atomic
from star_cli.local.kind import KindCluster
from star_cli.local.kubeapi import KubeApi
from star_cli.local.manifests import store_secret
from star_cli.local.objectstore import load_credentials
from star_cli.local.paths import DEFAULT_NAME, Layout, state_dir
from star_cli.local.processes import Processes, is_alive
from star_cli.local.progress import Reporter, Silent
from star_cli.local.versions import CLIENTS


class Engine(StrEnum):
    """What the cluster is made of."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    KIND = "kind"
    CONTROL_PLANE = "control-plane"


@dataclass(frozen=True)
class ComponentStatus:
    """One process of the cluster: `seconds` is how long it has run, None where it does not run."""

    name: str
    pid: int | None
    seconds: float | None
    log: Path


@dataclass(frozen=True)
class ClusterStatus:
    """What `status` shows: `engine` is None where there is no cluster of that name."""

    name: str
    engine: Engine | None
    kubeconfig: Path
    api_ready: bool = False
    nodes: tuple[tuple[str, bool], ...] = ()
    components: tuple[ComponentStatus, ...] = ()

    @property
    def well(self) -> bool:
        """Whether everything that should run runs."""
        nodes_well = bool(self.nodes) or self.engine is Engine.CONTROL_PLANE
        running = all(component.pid is not None for component in self.components)
        return self.api_ready and nodes_well and running and all(ready for _, ready in self.nodes)


@dataclass
class LocalCluster:
    """One local cluster, by name."""

    name: str = DEFAULT_NAME
    reporter: Reporter = field(default_factory=Silent)

    def __post_init__(self) -> None:
        self.layout = Layout(state_dir(self.name))
        self.binaries = Binaries(reporter=self.reporter)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    def engine(self) -> Engine | None:
        """What the cluster is made of; None where there is none."""
        try:
            return Engine(json.loads(self.layout.state_file.read_text())["engine"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def prepare(self, wanted: Engine = Engine.AUTO) -> None:
        """See that the machine can run the cluster, and install what it lacks; takes a second where nothing is missing.

        Raises:
            StarctlError: what the machine cannot provide.
        """
        chosen = self.engine() or wanted
        purpose = Purpose.CONTROL_PLANE if chosen is Engine.CONTROL_PLANE else Purpose.CLUSTER
        docker = None if chosen is Engine.AUTO else chosen is Engine.KIND
        prepare_host(purpose, self.reporter, cluster=self.name, docker=docker)

    def up(self, wanted: Engine = Engine.AUTO) -> Engine:
        """Have the cluster running: make it, repair it, or find that all is well. Returns its engine.

        Raises:
            LocalClusterError: see the engines; or the cluster exists with another engine than wanted.
        """
        with locked(self.layout.lock_file):
            try:
                return self._up(wanted)
            finally:
                if not self.layout.root.exists():  # refused before anything was made
                    self.layout.lock_file.unlink(missing_ok=True)

    def _up(self, wanted: Engine) -> Engine:
        present = self.engine()
        if present and wanted not in (Engine.AUTO, present):
            raise LocalClusterError(
                f"cluster {self.name} is a {present} one; take it down first: starctl local down --name {self.name}"
            )
        chosen = present or (_detect() if wanted is Engine.AUTO else wanted)
        if chosen is Engine.EMBEDDED:
            self.embedded().check()
        self.layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self.layout.state_file, json.dumps({"engine": chosen}))
        match chosen:
            case Engine.KIND:
                self.binaries.ensure_all(CLIENTS)
                self._kind().up()
            case Engine.CONTROL_PLANE:
                with self.reporter.step("control plane"):
                    self._control_plane().start()
            case _:
                self.embedded().up()
        return chosen

    def down(self) -> bool:
        """Remove the cluster, whatever state it is in. Returns whether there was one."""
        with locked(self.layout.lock_file):
            there = self.layout.root.exists()
            match self.engine():
                case Engine.KIND:
                    self._kind().down()
                case _:  # also where the state file is lost: an embedded cluster's remains include the others'
                    self.embedded().down()
            self.layout.lock_file.unlink(missing_ok=True)
            return there

    def status(self) -> ClusterStatus:
        """How the cluster is; changes nothing."""
        engine = self.engine()
        if engine is None:
            return ClusterStatus(self.name, None, self.kubeconfig)
        api_ready, nodes = check_kubeconfig(self.kubeconfig) if self.kubeconfig.exists() else (False, ())
        names: tuple[str, ...] = ()
        if engine is Engine.EMBEDDED:
            names = self.embedded().process_names
        elif engine is Engine.CONTROL_PLANE:
            names = self._control_plane().components
        components = tuple(_component(Processes(self.layout.records, self.layout.logs), name) for name in names)
        return ClusterStatus(self.name, engine, self.kubeconfig, api_ready, nodes, components)

    def write_store_secret(self, namespace: str) -> None:
        """Put the Secret by which pods reach the cluster's S3 server into an existing namespace.

        Raises:
            LocalClusterError: there is no such cluster or namespace, or the cluster has no S3 server.
        """
        if self.engine() not in (Engine.EMBEDDED, Engine.KIND):
            raise LocalClusterError(f"there is no cluster {self.name} with an S3 server; starctl local up makes one")
        credentials = load_credentials(self.layout.credentials)
        api = KubeApi(self.kubeconfig)
        try:
            api.apply(store_secret(namespace, credentials.access_key, credentials.secret_key))
        finally:
            api.close()

    def embedded(self) -> Embedded:
        """The cluster as an embedded one."""
        return Embedded(self.layout, self.binaries, self.reporter)

    def _kind(self) -> KindCluster:
        return KindCluster(self.layout, self.binaries, self.reporter)

    def _control_plane(self) -> ControlPlane:
        settings = ControlPlaneSettings(controllers=True, name=f"star-{self.name}")
        return ControlPlane(self.layout, settings, self.binaries)


def check_kubeconfig(path: Path) -> tuple[bool, tuple[tuple[str, bool], ...]]:
    """Whether the API server of a kubeconfig is ready, and its nodes, each with whether it is Ready.

    Raises:
        LocalClusterError: the file is no kubeconfig, or its user may not list nodes.
    """
    api = KubeApi(path, timeout=5.0)
    try:
        if not api.ready():
            return False, ()
        items = (api.get("/api/v1/nodes") or {}).get("items", [])
    finally:
        api.close()
    return True, tuple((str(item["metadata"]["name"]), _is_ready(item)) for item in items)


def _is_ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _component(processes: Processes, name: str) -> ComponentStatus:
    record = processes.record(name)
    if record is None or not is_alive(record):
        return ComponentStatus(name, None, None, processes.log(name))
    seconds = time.time() - (processes.records / f"{name}.json").stat().st_mtime
    return ComponentStatus(name, record.pid, seconds, processes.log(name))


def _detect() -> Engine:
    return Engine.KIND if docker_reachable() else Engine.EMBEDDED
