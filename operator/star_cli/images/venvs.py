"""The environments of the images on this machine, for trying code without an image: same locks, same finishing."""

import os
import subprocess
from pathlib import Path

from star_cli.images import cuda_stubs
from star_cli.images.errors import ImagesError
from star_cli.images.hostconfig import certificate_bundle, find_uv, uv_variables
from star_cli.images.locks import PYTHON
from star_cli.images.recipes import BUILD_LOCK, RECIPES, ROLES, Variant


def environment_path(cache: Path, role: str, variant: Variant) -> Path:
    """Folder of the environment."""
    return cache / "venvs" / f"{role}-{RECIPES[role].variant_for(variant).value}"


def lock_files(role: str, variant: Variant) -> list[str]:
    """The locks that make up a role's environment, relative to the repository.

    Raises:
        ImagesError: there is no such role.
    """
    if role not in ROLES:
        raise ImagesError(f"there is no image role {role!r}; the roles are {', '.join(ROLES)}")
    variant = RECIPES[role].variant_for(variant)
    locks: list[str] = []
    name = role
    while name:
        own = [path for path in RECIPES[name].files(variant) if path.startswith("images/locks/") and path != BUILD_LOCK]
        locks = own + locks
        name = RECIPES[name].parent_of(variant)
    return locks


def make(root: Path, cache: Path, role: str, variant: Variant) -> Path:
    """Make, or bring up to date, the environment of a role. Files are hard links into uv's cache.

    The project itself is not installed: put `operator` and `jobs` on PYTHONPATH.

    Returns:
        The environment's folder.

    Raises:
        ImagesError: there is no such role, or the packages cannot be had.
    """
    locks = lock_files(role, variant)
    target = environment_path(cache, role, variant)
    python = target / "bin" / "python"
    uv = str(find_uv())
    _run([uv, "venv", "--quiet", "--allow-existing", "--python", PYTHON, str(target)], cache)
    requirements = [str(root / lock) for lock in locks]
    _run([uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", *requirements], cache)
    if variant is Variant.CPU and any("torch-cpu" in lock for lock in locks):
        cuda_stubs.install(target / "lib" / f"python{PYTHON}" / "site-packages" / "torch" / "lib")
    if role == "vllm" and variant is Variant.CPU:
        _run(["sh", str(root / "images/vllm/name-distribution.sh"), str(python)], cache)
    return target


def _run(command: list[str], cache: Path) -> None:
    environment = {"SSL_CERT_FILE": str(certificate_bundle()), **uv_variables(), **os.environ}
    environment["UV_CACHE_DIR"] = str(cache / "uv")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ImagesError(f"{Path(command[0]).name} {command[1]} failed: {done.stderr.strip()[-1500:]}")
