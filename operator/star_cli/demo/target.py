"""Where the demo runs: the local cluster with images built here, or a cluster of the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from star_cli.beside import Beside
from star_cli.demo.store import StoreAccess, credentials_from_environment
from star_cli.errors import StarctlError
from star_cli.host.facts import docker_reachable
from star_cli.host.needs import Purpose
from star_cli.host.prepare import prepare_host
from star_cli.images.build import Builder, write_values
from star_cli.images.plan import Options as ImageOptions
from star_cli.install import CHART, EMBEDDED_VALUES
from star_cli.local.cluster import Engine, LocalCluster, check_kubeconfig
from star_cli.local.manifests import S3_PORT
from star_cli.local.objectstore import load_credentials
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Reporter
from star_cli.local.versions import EMBEDDED


@dataclass(frozen=True)
class Target:
    """A cluster that is ready for the operator."""

    kubeconfig: Path
    values: tuple[Path, ...]
    """Helm values, later ones win."""
    store: StoreAccess
    """The store as this machine reaches it."""
    local: bool
    """Whether it is the local cluster, which `starctl local down` removes."""


def local_target(name: str, root: Path, reporter: Reporter, purpose: Purpose = Purpose.DEMO) -> Target:
    """Have the local cluster running, with this checkout's images in its registry.

    Raises:
        StarctlError: the machine is not ready for `purpose`.
        LocalClusterError: the cluster does not come up.
        ImagesError: an image cannot be built.
    """
    prepare_host(purpose, reporter, cluster=name)
    cluster = LocalCluster(name, reporter)
    if builds_programs(cluster):  # compiling leaves the network and the disk to the images
        images = Beside(Builder(root.resolve(), cache_dir(), reporter).make_missing)
        cluster.up()
        images.result()
    else:
        cluster.up()
    values = build_images(root, reporter)
    access = StoreAccess(f"http://127.0.0.1:{S3_PORT}", load_credentials(cluster.layout.credentials))
    return Target(cluster.kubeconfig, (root / EMBEDDED_VALUES, values), access, local=True)


def builds_programs(cluster: LocalCluster) -> list[str]:
    """Names of the programs that must be built from source until the cluster is up."""
    if cluster.engine() is Engine.KIND or docker_reachable():
        return []
    return [tool.name for tool in cluster.binaries.missing(EMBEDDED) if tool.go and not tool.wheel]


def build_images(root: Path, reporter: Reporter) -> Path:
    """Build and push what the registry lacks; returns a values file with the references."""
    cache = cache_dir()
    options = ImageOptions()
    images = Builder(root.resolve(), cache, reporter, options).run([])
    values = cache / f"images-{options.variant.value}.yaml"
    write_values(images, options, values)
    return values


def own_target(kubeconfig: Path, values: tuple[Path, ...], root: Path, endpoint: str | None) -> Target:
    """A cluster of the user's own: its images and its store are what the values say.

    Raises:
        StarctlError: the values name no store that this machine could reach, or the credentials are not set.
        LocalClusterError: the kubeconfig is unusable.
    """
    ready, _ = check_kubeconfig(kubeconfig)
    if not ready:
        raise StarctlError(f"the API server of {kubeconfig} is not ready; is that cluster up?")
    if not values:
        raise StarctlError("--kubeconfig needs --values FILE: your cluster's store, images and pools (docs/demo.md)")
    connection = _merged([root / CHART / "values.yaml", *values]).get("store", {}).get("connection", {})
    url = endpoint or connection.get("endpoint")
    if not url:
        raise StarctlError("no S3 endpoint is known: set store.connection.endpoint in --values, or --store-endpoint")
    access = StoreAccess(url, credentials_from_environment(), connection.get("region", "us-east-1"))
    return Target(kubeconfig, values, access, local=False)


def _merged(files: list[Path]) -> dict[str, Any]:
    from star_cli.demo.manifests import merged

    found: dict[str, Any] = {}
    for file in files:
        try:
            found = merged(found, yaml.safe_load(file.read_text()) or {})
        except (OSError, yaml.YAMLError) as error:
            raise StarctlError(f"values file {file} cannot be read: {error}") from error
    return found
