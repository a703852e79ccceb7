"""The registry that images go to: the one that answers at their address, or one of our own for as long as it takes.

The local cluster's registry keeps its data in the cache. While no cluster runs, a registry is started over the same
folder on a free port: what is pushed to it is there when the cluster comes up.
API: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from star_cli.images.errors import ImagesError
from star_cli.local.binaries import Binaries
from star_cli.local.nodeconfig import registry_config

_LOCAL_HOSTS = {"localhost", "127.0.0.1"}
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}"
    for kind in (
        "oci.image.manifest.v1+json",
        "oci.image.index.v1+json",
        "docker.distribution.manifest.v2+json",
        "docker.distribution.manifest.list.v2+json",
    )
)
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Registry:
    """A registry to push to."""

    address: str
    """host:port."""

    @property
    def local(self) -> bool:
        """Whether it is on this machine: spoken to by plain HTTP, without credentials."""
        return self.address.partition(":")[0] in _LOCAL_HOSTS

    def answers(self) -> bool:
        """Whether it is there; one that asks for credentials is."""
        try:
            return self._get("").status_code in (200, 401)
        except httpx.HTTPError:
            return False

    def has(self, repository: str, tag: str) -> bool:
        """Whether it holds a tag; of a registry that asks for credentials we do not know, so it does not."""
        try:
            return self._get(f"{repository}/manifests/{tag}", "HEAD").status_code == 200
        except httpx.HTTPError:
            return False

    def _get(self, path: str, method: str = "GET") -> httpx.Response:
        scheme = "http" if self.local else "https"
        with httpx.Client(timeout=10, trust_env=not self.local) as client:
            return client.request(method, f"{scheme}://{self.address}/v2/{path}", headers={"Accept": _MANIFESTS})


def tag_folder(folder: Path, repository: str, tag: str) -> Path:
    """Where a registry that keeps its data in `folder` keeps a tag; `repository` and `tag` may be patterns."""
    return folder / "docker" / "registry" / "v2" / "repositories" / repository / "_manifests" / "tags" / tag


@contextmanager
def reachable(address: str, binaries: Binaries) -> Iterator[Registry]:
    """A registry that takes what belongs to `address`.

    Raises:
        ImagesError: nothing answers there, and it is not on this machine.
    """
    registry = Registry(address)
    if registry.answers():
        yield registry
    elif registry.local:
        with _own(binaries) as own:
            yield own
    else:
        raise ImagesError(f"registry {address} does not answer; check the address given by --registry, and the network")


@contextmanager
def _own(binaries: Binaries) -> Iterator[Registry]:
    folder = binaries.cache / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    config = folder.with_name(f".registry-{os.getpid()}.yaml")
    log = config.with_suffix(".log")
    config.write_text(registry_config(address, folder, read_only=False))
    program = binaries.ensure("registry")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), "serve", str(config)],
            stdout=output,
            stderr=output,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        registry = Registry(address)
        _wait(registry, process, log)
        yield registry
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        config.unlink(missing_ok=True)
        log.unlink(missing_ok=True)


def _wait(registry: Registry, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not registry.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ImagesError(f"the registry does not start; it said: {log.read_text()[-500:].strip()}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
