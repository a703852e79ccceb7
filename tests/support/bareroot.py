"""A minimal Debian of its own, with nothing but what README.md asks a machine for: the front door is tried in it.

It is a root file system made by mmdebstrap with Python, make and this checkout in it, and this machine's Go; commands
run in it by chroot, in a mount namespace whose mounts end with them. It takes packages from where this machine does.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from star_cli.images import rootfs
from star_cli.images.hostconfig import CODENAME, certificate_bundle, host_apt_settings, host_debian_sources
from star_cli.local.paths import cache_dir, state_root

ROOT = Path(__file__).parents[2]
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMED = ("make",)  # beside Python, which rootfs.command brings
_CERTIFICATES = "opt/certificates.pem"
_CARRIED = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "GOPROXY",
)
_PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf")
_LEFT_BEHIND = (".venv", ".git", "__pycache__", ".hypothesis", ".*_cache", "dist", "build")
_ENTER = """
set -eu
root=$1
shift
mount --bind "$root" "$root"
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mount --bind -o ro "$GO" "$root/opt/go"
if [ -d "$STATE" ]; then mount --bind "$STATE" "$root$STATE"; fi
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class BareRoot:
    """The root file system.

    It sees this machine's clusters, whose ports and network are in use; that they are looked at alone is the product's
    part: a folder that cannot be written to would be one of its complaints.
    """

    path: Path

    @classmethod
    def make(cls, path: Path) -> "BareRoot":
        """Make it in the new folder `path`; takes about a minute.

        Raises:
            CalledProcessError: mmdebstrap or Go is not here, or Debian's archive cannot be reached.
        """
        root = cls(path)
        sources = host_debian_sources(CODENAME)
        settings = path.with_suffix(".apt.conf")
        settings.write_text(host_apt_settings(str(certificate_bundle())))
        subprocess.run(rootfs.command(_NAMED, sources, settings, path), check=True, capture_output=True)
        settings.unlink()
        for folder in ("opt/go", str(state_root())[1:]):
            (path / folder).mkdir(parents=True)
        shutil.copyfile(certificate_bundle(), path / _CERTIFICATES)
        (path / "etc/apt/apt.conf.d/90machine").write_text(host_apt_settings(f"/{_CERTIFICATES}"))
        if sources:
            (path / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
        for file in ("/etc/resolv.conf", "/etc/hosts", *_PIP_FILES):
            if Path(file).exists():
                (path / file[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, path / file[1:])
        shutil.copytree(ROOT, path / "work", ignore=shutil.ignore_patterns(*_LEFT_BEHIND), symlinks=True)
        return root

    def write(self, file: str, content: str, mode: int = 0o644) -> None:
        """Write a file; `file` is its path inside."""
        target = self.path / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def has(self, program: str, folders: tuple[str, ...] = ()) -> bool:
        """Whether a program is there, on the usual path or in one of `folders`."""
        places = [*folders, *_SYSTEM_PATH.split(":")]
        return any(os.access(self.path / place.lstrip("/") / program, os.X_OK) for place in places)

    def run(self, *command: str, go: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout as root, with none of this machine's environment but its package indexes."""
        inside = {
            "HOME": "/root",
            "PATH": f"/opt/go/bin:{_SYSTEM_PATH}" if go else _SYSTEM_PATH,
            "PIP_CERT": f"/{_CERTIFICATES}",
            "STAR_STATE": str(state_root()),
            **{name: value for name in _CARRIED if (value := os.environ.get(name))},
            **variables,
        }
        assignments = [f"{name}={value}" for name, value in inside.items()]
        chrooted = ["env", "--ignore-environment", "--chdir=/work", *assignments, *command]
        where = {"GO": _go_root(), "STATE": str(state_root())}
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", _ENTER, "enter", str(self.path), *chrooted],
            env={**os.environ, **where},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def scratch_folder() -> Path:
    """Where such a root may be made: on the cache's file system, as overlay mounts do not stand on every /tmp."""
    folder = cache_dir() / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _go_root() -> str:
    return subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
