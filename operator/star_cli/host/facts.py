"""What this machine is and has, found in the first seconds of a command; changes nothing.

What may take long, a Docker engine or an index that does not answer, is asked side by side and given up after seconds.
"""

import configparser
import http.client
import importlib.util
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from star_cli.host.needs import Needs
from star_cli.host.search import find
from star_cli.local.cgroups import hierarchies
from star_cli.local.network import BRIDGE
from star_cli.local.paths import DEFAULT_NAME, Layout, cache_dir, state_dir, state_root
from star_cli.local.ports import is_free
from star_cli.local.processes import Processes
from star_cli.local.versions import TOOLS

TESTS_CLUSTER = "e2e"
"""A cluster that the end-to-end tests make for themselves."""
_ANSWER_SECONDS = 3.0
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_YES = ("1", "on", "true", "yes")
_UNLIMITED = 2**60  # what cgroup v1 writes for no limit is near 2^63


@dataclass(frozen=True)
class Go:
    """The Go toolchain that was found."""

    version: tuple[int, ...]
    switches: bool
    """Whether it brings a newer one by itself (https://go.dev/doc/toolchain)."""
    proxy: str = ""
    """The first server that it takes modules from; empty: none but the modules' own."""


@dataclass(frozen=True)
class Volume:
    """One file system, and what of ours would be on it."""

    free: int
    """Bytes that this user may fill."""
    writable: bool
    folders: Mapping[str, Path]
    """`cache`, `state` and `temporary`."""


@dataclass(frozen=True)
class Facts:
    """The machine. `programs` are names of `TOOLS` that are in the cache, or here in a version that fits."""

    apt: bool = True
    root: bool = True
    docker: bool = False
    programs: frozenset[str] = frozenset()
    go: Go | None = None
    venv: bool = True
    """Whether this Python can make environments: Debian has that in a package of its own."""
    python: str = "/usr/bin/python3.11"
    certificates: bool = True
    cores: int = 2
    memory: int = 16 * 2**30
    volumes: tuple[Volume, ...] = ()
    programs_cached: bool = False
    images_built: bool = False
    cluster_made: bool = False
    environment_made: bool = False
    taken_ports: frozenset[int] = frozenset()
    other_cluster: str = ""
    """State folder of another cluster that has the pod network."""
    controllers: frozenset[str] = frozenset()
    """Controllers of the mounted control groups."""
    groups_writable: bool = True
    sysctls_writable: bool = True
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """What did not answer, and why: `Python packages`, `Go modules`, `releases`."""


def probe(needs: Needs, cluster: str, *, docker: bool, repository: Path | None = None) -> Facts:
    """The facts that bear on `needs`; `docker` is what `docker_reachable` said."""
    cache, state = cache_dir(), state_dir(cluster)
    programs = frozenset(name for name in needs.programs if _is_here(name, cache))
    mounts = _text(Path("/proc/self/mounts"))
    groups = hierarchies(mounts)
    facts = Facts(
        apt=shutil.which("apt-get") is not None,
        root=os.geteuid() == 0,
        docker=docker,
        programs=programs,
        go=_go(),
        venv=all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        python=str(Path(sys.executable).resolve()),
        certificates=any(_trusted()),
        cores=len(os.sched_getaffinity(0)),
        memory=min(_memory(), _memory_limit(groups)),
        volumes=_volumes({"cache": cache, "state": state, "temporary": Path(tempfile.gettempdir())}),
        programs_cached=all(name in programs for name in needs.programs if TOOLS[name].go),
        images_built=any(cache.glob("images-*.yaml")),
        cluster_made=state.exists(),
        environment_made=repository is None or (repository / ".venv" / "installed").exists(),
        taken_ports=_taken(needs.ports, state),
        other_cluster=_other_cluster(state),
        controllers=controllers(mounts, [_text(root / "cgroup.controllers") for root in groups]),
        groups_writable=all(os.access(root, os.W_OK) for root in groups),
        sysctls_writable=os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK),
    )
    return replace(facts, unreachable=_unreachable(needed_sources(needs, facts)))


def docker_reachable() -> bool:
    """Whether a Docker engine answers; the client alone is no engine."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        asked = [docker, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(asked, capture_output=True, timeout=_ANSWER_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def controllers(mounts: str, unified: Iterable[str]) -> frozenset[str]:
    """The controllers of all hierarchies: cgroup v1 has them in the mount's options, v2 in `cgroup.controllers`.

    Args:
        mounts: text of /proc/self/mounts.
        unified: texts of `cgroup.controllers`, empty for v1.
    """
    found = {name for text in unified for name in text.split()}
    for line in mounts.splitlines():
        _, _, kind, options, *_ = line.split()
        if kind == "cgroup":
            found.update(options.split(","))
    return frozenset(found)


def _is_here(name: str, cache: Path) -> bool:
    tool = TOOLS[name]
    return (cache / "bin" / tool.file_name).exists() or find(tool) is not None


def _go() -> Go | None:
    program = find(TOOLS["go"])
    if program is None:
        return None
    try:
        said = json.loads(_output([str(program), "env", "-json", "GOVERSION", "GOTOOLCHAIN", "GOPROXY"]))
        version = tuple(int(part) for part in said["GOVERSION"].removeprefix("go").split("-")[0].split(".")[:2])
    except (ValueError, KeyError):  # older than Go 1.16, or no Go at all
        return Go((1, 0), switches=False)
    switches = version >= (1, 21) and said["GOTOOLCHAIN"] != "local"
    web = [proxy for proxy in said["GOPROXY"].replace("|", ",").split(",") if proxy.startswith("http")]
    return Go(version, switches, web[0] if web else "")


def _trusted() -> Iterable[bool]:
    paths = ssl.get_default_verify_paths()
    for place in (os.environ.get("SSL_CERT_FILE"), paths.cafile, _BUNDLE):
        yield bool(place) and Path(str(place)).is_file()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_limit(groups: Iterable[Path]) -> int:
    """The least limit that a container or service manager set on this process's own control group."""
    limits = [_UNLIMITED]
    for root in groups:
        for name in ("memory.max", "memory.limit_in_bytes"):
            for line in _text(Path("/proc/self/cgroup")).splitlines():
                text = _text(root / line.rpartition(":")[2].lstrip("/") / name).strip()
                limits += [int(text)] if text.isdigit() else []
    return min(limits)


def _volumes(folders: Mapping[str, Path]) -> tuple[Volume, ...]:
    """The file systems of folders that may not exist yet."""
    found: dict[int, Volume] = {}
    for name, folder in folders.items():
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        writable = os.access(there, os.W_OK)
        known = found.get(there.stat().st_dev)
        found[there.stat().st_dev] = Volume(
            free=shutil.disk_usage(there).free,
            writable=writable and (known is None or known.writable),
            folders={**(known.folders if known else {}), name: folder},
        )
    return tuple(found.values())


def _taken(ports: Iterable[int], state: Path) -> frozenset[int]:
    """Ports that something else than the cluster of that state folder listens on."""
    layout = Layout(state)
    processes = Processes(layout.records, layout.logs)
    if '"kind"' in _text(layout.state_file) or any(map(processes.alive, processes.names())):
        return frozenset()
    return frozenset(port for port in ports if not is_free("127.0.0.1", port))


def cluster_of_tests() -> str:
    """The name of the cluster for the end-to-end tests: one of this user's that runs, as there can be one alone.

    It is theirs for the session where none runs: `TESTS_CLUSTER`. With STAR_E2E_KEEP=1 it is the default one.
    """
    owner = Path(_owner())
    if owner.parent == state_root() and owner.name != TESTS_CLUSTER:
        return owner.name
    return DEFAULT_NAME if os.environ.get("STAR_E2E_KEEP") == "1" else TESTS_CLUSTER


def _owner() -> str:
    """The state folder of the cluster that has the pod network; empty where none has."""
    return _text(Path("/sys/class/net") / BRIDGE / "ifalias").strip()


def _other_cluster(state: Path) -> str:
    owner = _owner()
    return "" if owner == str(state) else owner


def needed_sources(needs: Needs, facts: Facts) -> dict[str, str]:
    """What is still to be fetched, by name: one address where each comes from."""
    sources: dict[str, str] = {}
    index = _package_index()
    images = needs.disk.images > 0 and not facts.images_built
    if index and (images or not facts.environment_made):
        sources["Python packages"] = f"{index.rstrip('/')}/uv/"
    if not facts.programs_cached and facts.go is None:
        sources["releases"] = "https://dl.k8s.io/"
    elif not facts.programs_cached and facts.go is not None and facts.go.proxy:
        sources["Go modules"] = f"{facts.go.proxy.rstrip('/')}/golang.org/x/mod/@v/list"
    return sources


def _package_index() -> str:
    """pip's index as its files and variables have it, as a bare machine has no pip to ask; empty: it uses none.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    settings = configparser.RawConfigParser(strict=False)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pip" / "pip.conf"
    places = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", Path.home() / ".pip" / "pip.conf", config)
    try:
        settings.read([*places, os.environ.get("PIP_CONFIG_FILE", os.devnull)])
    except configparser.Error:  # pip says it better
        return ""
    if os.environ.get("PIP_NO_INDEX") or settings.get("global", "no-index", fallback="") in _YES:
        return ""
    fallback = settings.get("global", "index-url", fallback="https://pypi.org/simple")
    return os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or fallback


def _unreachable(sources: Mapping[str, str]) -> dict[str, str]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        said = dict(zip(sources, pool.map(_silence, sources.values()), strict=True))
    return {name: why for name, why in said.items() if why}


def _silence(url: str) -> str:
    """Why nothing answers at a URL; empty where something does, whatever it says: credentials are the client's."""
    parts = urlsplit(url)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # the password is the client's, and no news
    unchecked = ssl._create_unverified_context()  # noqa: S323 - nothing is taken from it, and the clients check
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the user's own configuration
    handlers = (urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=unchecked))
    try:
        urllib.request.build_opener(*handlers).open(request, timeout=_ANSWER_SECONDS).close()
    except (urllib.error.HTTPError, TimeoutError):  # the latter only from a server that is connected, and slow
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{url}: {getattr(error, 'reason', error)}"
    return ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
