"""The programs that build images: Docker where one answers, else buildah.

Both get the same Dockerfiles, build arguments and build contexts. buildah keeps its storage in the cache folder, apart
from the machine's own, and takes the uv cache as a volume: wheels are downloaded and unpacked once for all images.
"""

import os
import re
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from star_cli.host.facts import docker_reachable
from star_cli.host.search import find
from star_cli.images.errors import DamagedStorageError, ImagesError
from star_cli.images.hostconfig import UV_CACHE_IN_BUILD
from star_cli.local.versions import TOOLS

Progress = Callable[[int, int], None]
"""Called with the number of the step that begins, and the number of steps."""

_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+)/(\d+):")
_LAST_LINES = 25
DAMAGED = "file integrity checksum failed"
"""How containers/storage says that a file of a layer differs from what was recorded when the layer was made."""
_END_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""A build ends with the command that asked for it, even where that is killed (prctl(2), PR_SET_PDEATHSIG)."""


@dataclass(frozen=True)
class BuildRequest:
    """One image to build."""

    reference: str
    dockerfile: str
    """Path within `context`."""
    context: Path
    tools: Path
    """Build context with uv and the machine's package configuration (`hostconfig.write_tools`)."""
    arguments: dict[str, str]
    uv_cache: Path
    folders: list[Path] = field(default_factory=list)
    """Folders of this machine that the build sees at their own paths."""
    pull: bool = False
    """Whether the parent may come from another machine's registry."""


class Engine(Protocol):
    """What the builder needs of a program that builds images."""

    name: str
    default_base: str
    """Image that the base stands on where the user names none; empty: it must be made here."""

    def has(self, reference: str) -> bool:
        """Whether the image is in this engine's storage."""

    def build(self, request: BuildRequest, log: Path, progress: Progress) -> None:
        """Build an image; what the program prints goes to `log`."""

    def push(self, reference: str, address: str, *, secure: bool) -> None:
        """Push an image to the registry at `address`, under its own repository and tag.

        Raises:
            DamagedStorageError: what is stored differs from what was built.
        """

    def clear(self) -> None:
        """Forget all images and layers."""


@dataclass(frozen=True)
class Buildah:
    """buildah, as root and without a daemon (https://buildah.io)."""

    storage: Path
    """Folder for images and layers."""
    program: str = "buildah"
    name: str = "buildah"
    default_base: str = ""

    def command(self, *arguments: str) -> list[str]:
        """A buildah command over our storage."""
        folders = ["--root", str(self.storage / "storage"), "--runroot", str(self.storage / "run")]
        return [self.program, *folders, "--storage-driver", "overlay", *arguments]

    def has(self, reference: str) -> bool:
        """See Engine."""
        return _succeeds(self.command("inspect", "--type", "image", "--format", "{{.FromImageID}}", reference))

    def build_command(self, request: BuildRequest) -> list[str]:
        """`buildah build` for a request (buildah-build(1))."""
        options = ["--isolation", "chroot", "--layers", "--format", "oci"]
        options += [] if request.pull else ["--pull-never"]
        options += ["--volume", f"{request.uv_cache}:{UV_CACHE_IN_BUILD}"]
        for folder in request.folders:
            options += ["--volume", f"{folder}:{folder}:ro"]
        return self.command("build", *options, *_common(request), str(request.context))

    def build(self, request: BuildRequest, log: Path, progress: Progress) -> None:
        """See Engine."""
        temporary = self.storage / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        run_logged(self.build_command(request), log, progress, {"TMPDIR": str(temporary)})

    def push(self, reference: str, address: str, *, secure: bool) -> None:
        """See Engine. Layers that the registry has are not sent again."""
        target = f"docker://{address}/{reference.partition('/')[2]}"
        options = [] if secure else ["--tls-verify=false"]
        try:
            _run(self.command("push", "--quiet", *options, reference, target))
        except ImagesError as error:
            raise DamagedStorageError(str(error)) if DAMAGED in str(error) else error from None

    def clear(self) -> None:
        """See Engine."""
        _run(self.command("rmi", "--all", "--force"))

    def import_rootfs(self, archive: Path, reference: str) -> None:
        """Make an image of a root file system's archive."""
        container = _run(self.command("from", "scratch")).strip()
        try:
            _run(self.command("add", container, str(archive), "/"))
            _run(self.command("commit", "--quiet", "--format", "oci", container, reference))
        finally:
            _run(self.command("rm", container))

    def references(self) -> list[str]:
        """All tagged images in our storage."""
        listing = _run(self.command("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}"))
        return [line for line in listing.split() if not line.startswith("<none>")]

    def remove(self, reference: str) -> None:
        """Remove an image; layers that others use stay."""
        _run(self.command("rmi", reference))

    def remove_dangling(self) -> None:
        """Remove untagged images that no other stands on."""
        _run(self.command("rmi", "--prune", "--force"))


@dataclass(frozen=True)
class Docker:
    """Docker with BuildKit, which reads the same Dockerfiles."""

    program: str = "docker"
    name: str = "docker"
    default_base: str = "python:3.11-slim-bookworm"

    def has(self, reference: str) -> bool:
        """See Engine."""
        return _succeeds([self.program, "image", "inspect", reference])

    def build_command(self, request: BuildRequest) -> list[str]:
        """`docker build` for a request (docs.docker.com, `docker buildx build`). The uv cache is BuildKit's own."""
        return [self.program, "build", "--progress", "plain", *_common(request), str(request.context)]

    def build(self, request: BuildRequest, log: Path, progress: Progress) -> None:
        """See Engine."""
        run_logged(self.build_command(request), log, progress, {"DOCKER_BUILDKIT": "1"})

    def push(self, reference: str, address: str, *, secure: bool) -> None:
        """See Engine. The daemon decides about TLS: it takes registries on its own machine without."""
        target = f"{address}/{reference.partition('/')[2]}"
        if target != reference:
            _run([self.program, "tag", reference, target])
        _run([self.program, "push", "--quiet", target])

    def clear(self) -> None:
        """See Engine. The daemon checks what it stores, and holds images of others: nothing is done."""


def choose(cache: Path) -> Buildah | Docker:
    """The engine of this machine.

    Raises:
        ImagesError: there is none.
    """
    if docker_reachable():
        return Docker()
    if find(TOOLS["buildah"]) is None:
        raise ImagesError("neither a Docker engine answers nor is buildah here; run: make host NEEDS=images")
    if os.geteuid() != 0:
        raise ImagesError("buildah builds as root here; run the command as root, or start Docker")
    return Buildah(cache / "containers")


def _common(request: BuildRequest) -> list[str]:
    options = ["--file", str(request.context / request.dockerfile), "--tag", request.reference]
    options += ["--build-context", f"tools={request.tools}"]
    for name, value in sorted(request.arguments.items()):
        options += ["--build-arg", f"{name}={value}"]
    return options


def run_logged(command: list[str], log: Path, progress: Progress, environment: dict[str, str]) -> None:
    """Run a command, copy what it prints to `log`, and report its steps.

    Raises:
        ImagesError: it failed; the message has its last lines and names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with (
        log.open("w") as file,
        subprocess.Popen(
            [*_END_WITH_US, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
        ) as process,
    ):
        for line in process.stdout or ():
            file.write(line)
            last.append(line)
            step = _STEP.match(line)
            if step:
                progress(int(step.group(1)), int(step.group(2)))
    if process.returncode:
        raise ImagesError(
            f"{' '.join(command[:1])} failed with status {process.returncode}; its whole output is in {log}. "
            f"It ended with:\n{''.join(last).strip()}"
        )


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        verb = next((part for part in command[1:] if not part.startswith(("-", "/")) and part != "overlay"), "")
        raise ImagesError(f"{command[0]} {verb} failed: {done.stderr.strip()[-800:]}")
    return done.stdout
