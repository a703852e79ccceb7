"""Dependency locks: hashed requirements files, one a role and variant, made by uv from loose requirements.

A lock's requirements are an extra or group of pyproject.toml, `images/locks/<name>.in`, or both. The role locks of a
variant leave out what the layer below holds (torch, or for the gateway the jobs), at the very versions that it holds:
`layer` and role lock together are the whole environment. Locks name no index: who installs from them uses their own.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from star_cli.images.errors import ImagesError

PROJECT = "star-operator"
FOLDER = "images/locks"
PYTHON = "3.11"
# Debian 12's glibc: the oldest that the images may stand on.
PLATFORM = "x86_64-manylinux_2_36"
_DIGEST_LINE = re.compile(r"^# inputs: sha256:([0-9a-f]{64})$", re.MULTILINE)
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_SELF = re.compile(rf"^{re.escape(PROJECT)}\[([^\]]+)\]$")


@dataclass(frozen=True)
class LockSpec:
    """One lock: where its requirements come from."""

    name: str
    """File name without `.txt`."""
    extra: str = ""
    """Extra of pyproject.toml whose requirements it holds."""
    group: str = ""
    """Dependency group of pyproject.toml whose requirements it holds."""
    variant: str = ""
    """`cpu` or `cuda`: which `<variant>.excludes.txt` and `<variant>.overrides.txt` apply."""
    layer: str = ""
    """Lock of the image below: its packages are left out here, and its versions hold."""

    @property
    def file(self) -> str:
        """The lock, relative to the repository."""
        return f"{FOLDER}/{self.name}.txt"


SPECS = (
    LockSpec("torch-cpu", variant="cpu"),
    LockSpec("torch-cuda", variant="cuda"),
    LockSpec("vllm-cpu", extra="vllm", variant="cpu", layer="torch-cpu"),
    LockSpec("vllm-cuda", extra="vllm", variant="cuda", layer="torch-cuda"),
    LockSpec("trainer-cpu", extra="trainer", variant="cpu", layer="torch-cpu"),
    LockSpec("trainer-cuda", extra="trainer", variant="cuda", layer="torch-cuda"),
    LockSpec("rollout-cpu", extra="rollout", variant="cpu", layer="torch-cpu"),
    LockSpec("rollout-cuda", extra="rollout", variant="cuda"),
    LockSpec("jobs", extra="jobs"),
    LockSpec("gateway", extra="gateway", layer="jobs"),
    LockSpec("operator", extra="operator"),
    LockSpec("dev", group="dev"),
    LockSpec("build"),
)
"""All locks, a layer before those that stand on it."""


def by_name(names: Iterable[str]) -> tuple[LockSpec, ...]:
    """The specs called `names`, in the order of SPECS; all of them for no names.

    Raises:
        ImagesError: there is no lock of that name.
    """
    wanted = set(names)
    unknown = wanted - {spec.name for spec in SPECS}
    if unknown:
        known = ", ".join(spec.name for spec in SPECS)
        raise ImagesError(f"there is no lock {sorted(unknown)[0]!r}; the locks are {known}")
    return tuple(spec for spec in SPECS if not wanted or spec.name in wanted)


def project_requirements(pyproject: str, spec: LockSpec) -> list[str]:
    """Requirements of the spec's extra or group, with the project's own extras in them resolved.

    Args:
        pyproject: text of pyproject.toml.
        spec: the lock.

    Raises:
        ImagesError: pyproject.toml has no such extra or group.
    """
    if not spec.extra and not spec.group:
        return []
    document = tomllib.loads(pyproject)
    extras = document["project"].get("optional-dependencies", {})
    groups = document.get("dependency-groups", {})
    table, key = (extras, spec.extra) if spec.extra else (groups, spec.group)
    if key not in table:
        raise ImagesError(f"lock {spec.name}: pyproject.toml has no extra or group {key!r}; name one that it has")
    found = [*document["project"].get("dependencies", []), *_flatten(table[key], extras)]
    return sorted(set(found))


def _flatten(requirements: Iterable[str], extras: dict[str, list[str]]) -> Iterator[str]:
    for requirement in requirements:
        own = _SELF.match(requirement)
        if own:
            for extra in own.group(1).split(","):
                yield from _flatten(extras[extra.strip()], extras)
        else:
            yield requirement


def pins(lock: str) -> dict[str, str]:
    """Package to version, of a lock's text."""
    return dict(_PIN.findall(lock))


def inputs_digest(root: Path, spec: LockSpec) -> str:
    """Digest (hex sha256) of everything a lock follows from; written into the lock, so that a test can compare.

    Comments and blank lines of the inputs do not count. Of the layer its pins count, not its hashes.
    """
    parts = [PYTHON, PLATFORM, spec.name, *project_requirements((root / "pyproject.toml").read_text(), spec)]
    for path in _input_files(root, spec):
        parts += [path.name, *_lines(path)]
    if spec.layer:
        parts += [f"{name}=={version}" for name, version in sorted(_layer_pins(root, spec).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def recorded_digest(lock: str) -> str:
    """The inputs' digest that a lock's text carries, or an empty string."""
    match = _DIGEST_LINE.search(lock)
    return match.group(1) if match else ""


def in_sync(root: Path, spec: LockSpec) -> bool:
    """Whether a lock was made from the inputs that lie beside it now."""
    return recorded_digest((root / spec.file).read_text()) == inputs_digest(root, spec)


def compile_command(root: Path, spec: LockSpec, output: Path, uv: str = "uv") -> list[str]:
    """`uv pip compile` for a lock, to be run in `root` with the project's requirements on standard input.

    Pins that `output` holds already are kept where they still fit: only what must change does.
    """
    command = [uv, "pip", "compile", "-", "--quiet", "--output-file", str(output)]
    command += ["--python-version", PYTHON, "--python-platform", PLATFORM, "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make locks"]
    for path in _input_files(root, spec):
        if path.name.endswith(".in"):
            command.append(str(path.relative_to(root)))
        else:
            option = "--excludes" if "excludes" in path.name else "--overrides"
            command += [option, str(path.relative_to(root))]
    if spec.layer:
        command += ["--constraints", f"{FOLDER}/{spec.layer}.txt"]
        for package in sorted(_layer_pins(root, spec)):
            command += ["--no-emit-package", package]
    return command


def compile_lock(root: Path, spec: LockSpec, *, upgrade: bool = False, uv: str = "uv") -> bool:
    """Make a lock anew. Returns whether its pins changed.

    Raises:
        ImagesError: the requirements have no solution, or the index does not answer.
    """
    target = root / spec.file
    before = target.read_text() if target.exists() else ""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / target.name
        if before and not upgrade:
            shutil.copyfile(target, output)
        resolve(root, spec, output, uv)
        text = f"# inputs: sha256:{inputs_digest(root, spec)}\n{output.read_text()}"
    if text != before:
        temporary = target.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(target)
    return pins(text) != pins(before)


def resolve(root: Path, spec: LockSpec, output: Path, uv: str = "uv") -> None:
    """Resolve a lock's requirements into `output`.

    Raises:
        ImagesError: uv failed; the message ends with what it said.
    """
    requirements = project_requirements((root / "pyproject.toml").read_text(), spec)
    done = subprocess.run(
        compile_command(root, spec, output, uv),
        input="".join(f"{line}\n" for line in requirements),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImagesError(
            f"lock {spec.name} does not resolve; change its requirements in pyproject.toml or "
            f"{FOLDER}/{spec.name}.in. uv said:\n{done.stderr.strip()}"
        )


def _layer_pins(root: Path, spec: LockSpec) -> dict[str, str]:
    return pins((root / FOLDER / f"{spec.layer}.txt").read_text())


def _input_files(root: Path, spec: LockSpec) -> list[Path]:
    names = [f"{spec.name}.in"]
    if spec.variant:
        names += [f"{spec.variant}.excludes.txt", f"{spec.variant}.overrides.txt"]
    return [path for path in (root / FOLDER / name for name in names) if path.exists()]


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]
