"""The local cluster with Docker: kind makes it, and two containers beside it are the registry and the S3 server.

https://kind.sigs.k8s.io/docs/user/local-registry/. The commands are built by pure functions; `KindCluster` runs them.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_if_changed
from star_cli.local.kubeapi import KubeApi
from star_cli.local.manifests import BUCKET, S3_PORT, SYSTEM_NAMESPACE, host_service, store_secret
from star_cli.local.node import dress_node
from star_cli.local.nodeconfig import REGISTRY_PORT
from star_cli.local.objectstore import load_credentials, make_bucket
from star_cli.local.paths import Layout
from star_cli.local.progress import Reporter
from star_cli.local.versions import REGISTRY, VERSITYGW

_REGISTRY_IMAGE = f"registry:{REGISTRY}"
_S3_IMAGE = f"versity/versitygw:v{VERSITYGW}"
_NETWORK = "kind"
_READY = "240s"


def kind_config(registry: str) -> str:
    """kind's configuration: one node whose containerd takes `localhost:5000` images from container `registry`."""
    hosts = "/etc/containerd/certs.d"
    patch = f'[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "{hosts}"\n'
    document = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "containerdConfigPatches": [patch],
        "nodes": [{"role": "control-plane"}],
    }
    return f"# the registry is container {registry}\n" + yaml.safe_dump(document, sort_keys=False)


def create_command(kind: Path, name: str, layout: Layout) -> list[str]:
    """The command that makes the cluster and writes its kubeconfig into the state folder."""
    config = str(layout.config / "kind.yaml")
    options = ["--config", config, "--kubeconfig", str(layout.kubeconfig), "--wait", _READY]
    return [str(kind), "create", "cluster", "--name", name, *options]


def registry_command(container: str) -> list[str]:
    """The command that runs the image registry, published on loopback only."""
    publish = f"127.0.0.1:{REGISTRY_PORT}:{REGISTRY_PORT}"
    return ["docker", "run", "-d", "--restart", "always", "--name", container, "-p", publish, _REGISTRY_IMAGE]


def s3_command(container: str) -> list[str]:
    """The command that runs the S3 server; the credential comes from the caller's environment, never the arguments."""
    publish = f"127.0.0.1:{S3_PORT}:{S3_PORT}"
    secrets = ["-e", "ROOT_ACCESS_KEY_ID", "-e", "ROOT_SECRET_ACCESS_KEY"]
    run = ["docker", "run", "-d", "--restart", "always", "--name", container, "-p", publish, *secrets]
    data = f"{container}-data:/data"
    return [*run, "-v", data, _S3_IMAGE, "--port", f":{S3_PORT}", "posix", "/data"]


@dataclass
class KindCluster:
    """A cluster made by kind, its registry and its S3 server."""

    layout: Layout
    binaries: Binaries
    reporter: Reporter

    @property
    def name(self) -> str:
        """Name of the cluster, for kind."""
        return f"star-{self.layout.root.name}"

    @property
    def containers(self) -> dict[str, str]:
        """Names of the containers beside the cluster."""
        return {"registry": f"{self.name}-registry", "s3": f"{self.name}-s3"}

    def up(self) -> None:
        """Have cluster, registry and S3 server running; what is there already stays.

        Raises:
            LocalClusterError: a command failed; its last words are in the message.
        """
        kind = self.binaries.ensure("kind")
        self.layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_if_changed(self.layout.config / "kind.yaml", kind_config(self.containers["registry"]))
        with self.reporter.step("kind cluster"):
            if self.name not in _run([str(kind), "get", "clusters"]).split():
                _run(create_command(kind, self.name, self.layout))
            _run(["docker", "start", f"{self.name}-control-plane"])
        credentials = load_credentials(self.layout.credentials)
        secrets = {"ROOT_ACCESS_KEY_ID": credentials.access_key, "ROOT_SECRET_ACCESS_KEY": credentials.secret_key}
        with self.reporter.step("image registry and S3 server"):
            self._container(self.containers["registry"], registry_command(self.containers["registry"]))
            self._container(self.containers["s3"], s3_command(self.containers["s3"]), secrets)
            self._route_registry()
            make_bucket(f"http://127.0.0.1:{S3_PORT}", credentials, BUCKET)
        self._apply_objects()

    def down(self) -> None:
        """Remove cluster, containers, their data and the state folder."""
        kind = self.binaries.ensure("kind")
        _run([str(kind), "delete", "cluster", "--name", self.name])
        for container in self.containers.values():
            if self._exists(container):
                _run(["docker", "rm", "--force", "--volumes", container])
        _run(["docker", "volume", "rm", "--force", f"{self.containers['s3']}-data"])
        if self.layout.root.exists():
            shutil.rmtree(self.layout.root)

    def _exists(self, container: str) -> bool:
        listed = _run(["docker", "ps", "--all", "--filter", f"name=^{container}$", "--format", "{{.Names}}"])
        return container in listed.split()

    def _container(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        if self._exists(name):
            _run(["docker", "start", name])
        else:
            _run(command, env)
        networks = _run(["docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", name])
        if f'"{_NETWORK}"' not in networks:
            _run(["docker", "network", "connect", _NETWORK, name])

    def _route_registry(self) -> None:
        """Tell the node's containerd that localhost:5000 is the registry's container."""
        folder = f"/etc/containerd/certs.d/localhost:{REGISTRY_PORT}"
        hosts = f'[host."http://{self.containers["registry"]}:{REGISTRY_PORT}"]\n'
        script = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
        _run(["docker", "exec", "-i", f"{self.name}-control-plane", "sh", "-c", script], stdin=hosts)

    def _apply_objects(self) -> None:
        credentials = load_credentials(self.layout.credentials)
        api = KubeApi(self.layout.kubeconfig)
        try:
            api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
            for name, port in (("s3", S3_PORT), ("registry", REGISTRY_PORT)):
                address = _address(self.containers[name])
                api.apply_all(host_service(name, SYSTEM_NAMESPACE, address, {"http": (port, port)}))
            api.apply(store_secret("default", credentials.access_key, credentials.secret_key))
            dress_node(api, f"{self.name}-control-plane")
        finally:
            api.close()


def _address(container: str) -> str:
    template = f'{{{{(index .NetworkSettings.Networks "{_NETWORK}").IPAddress}}}}'
    return _run(["docker", "inspect", "--format", template, container]).strip()


def _run(command: Sequence[str], env: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    full = {**os.environ, **env} if env else None
    done = subprocess.run(command, env=full, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-10:])
        raise LocalClusterError(f"{' '.join(command[:4])} failed ({done.returncode}): {tail}")
    return done.stdout
