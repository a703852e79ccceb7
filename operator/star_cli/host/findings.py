"""Facts against needs: which Debian packages to install, and what is wrong with the machine, a sentence each. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from star_cli.host.facts import Facts
from star_cli.host.needs import Disk, Needs
from star_cli.local.versions import GO, TOOLS, Tool

_CONTROLLERS = frozenset(("cpu", "cpuset", "memory", "pids"))
_GB = 10**9
_VENV = "python3.11-venv"


@dataclass(frozen=True)
class Findings:
    """What the machine lacks."""

    packages: tuple[str, ...]
    """Debian packages to install."""
    problems: tuple[str, ...]
    """What a person must see to: what is wrong, and what to do, a sentence each."""


def judge(facts: Facts, needs: Needs) -> Findings:
    """Compare a machine with what is needed of it."""
    packages = missing_packages(facts, needs)
    may_install = facts.apt and facts.root
    problems = [
        *_engine_and_python(facts, needs),
        *(() if may_install else _not_installable(facts, packages)),
        *_builds(facts, needs),
        *_size(facts, needs),
        *_rights(facts, needs),
        *_occupied(facts, needs),
        *_network(facts),
    ]
    return Findings(packages if may_install else (), tuple(problems))


def unsupported(system: str) -> tuple[str, ...]:
    """What is wrong with an operating system and processor, such as `Linux x86_64`; nothing else of it is looked at."""
    if system == "Linux x86_64":
        return ()
    return (f"This machine is {system}, and the programs and images are for Linux x86_64: use such a machine.",)


def missing_packages(facts: Facts, needs: Needs) -> tuple[str, ...]:
    """The Debian packages of everything that is not here, each once."""
    tools = [tool for tool in _missing(facts, needs) if tool.debian]
    names = [name for tool in tools for name in (tool.debian, *tool.debian_with)]
    names += [] if facts.certificates else ["ca-certificates"]
    names += [] if facts.venv or not facts.python.startswith("/usr/bin/") else [_VENV]
    return tuple(dict.fromkeys(names))


def _missing(facts: Facts, needs: Needs) -> list[Tool]:
    return [TOOLS[name] for name in needs.programs if name not in facts.programs]


def _engine_and_python(facts: Facts, needs: Needs) -> Iterator[str]:
    if needs.docker and not facts.docker:
        yield "No Docker engine answers: start Docker, or leave the engine to be chosen (a client alone is none)."
    if not facts.venv and not facts.python.startswith("/usr/bin/"):
        yield f"{facts.python} cannot make environments (venv, ensurepip): install a Python 3.11 that is whole."


def _not_installable(facts: Facts, packages: tuple[str, ...]) -> Iterator[str]:
    if packages and not facts.apt:
        yield (
            f"This machine has no apt-get to install what is missing with: install the programs of Debian's "
            f"{', '.join(packages)} by its own means."
        )
    elif packages:
        yield (
            "Some programs are missing, and only root can install them: run this as root, or "
            f"`sudo apt-get install --no-install-recommends {' '.join(packages)}`."
        )


def _builds(facts: Facts, needs: Needs) -> Iterator[str]:
    """Go builds what no release host gives; some programs have no release at all."""
    wanted = [tool for tool in _missing(facts, needs) if tool.go]
    if not wanted or (facts.go is not None and (facts.go.version >= GO or facts.go.switches)):
        return
    released = "releases" not in facts.unreachable and facts.go is None
    names = [tool.name for tool in wanted if not (released and tool.release)]
    if names:
        found = f"Go {'.'.join(map(str, facts.go.version))} is too old" if facts.go else "Go is not installed"
        yield (
            f"{found}, and it builds {', '.join(names)}: install Go {'.'.join(map(str, GO))} or newer "
            f"({TOOLS['go'].named}) and have it on PATH."
        )


def _size(facts: Facts, needs: Needs) -> Iterator[str]:
    if facts.cores < needs.cores:
        yield f"This needs {needs.cores} processor cores, and {facts.cores} may be used here: use a larger machine."
    if facts.memory < needs.memory * 2**30:
        yield (
            f"This needs {needs.memory} GiB of memory, and the machine (or the container's limit) has "
            f"{facts.memory / 2**30:.1f} GiB: use a larger machine, or raise the limit."
        )
    for volume in facts.volumes:
        places = " and ".join(str(folder) for folder in volume.folders.values())
        wanted = sum(_wanted(name, facts, needs.disk) for name in volume.folders)
        if not volume.writable:
            yield f"{places} cannot be written to: mend its owner or mode, or set STAR_CACHE, STAR_STATE or TMPDIR."
        elif volume.free < wanted * _GB:
            yield (
                f"This needs {wanted} GB of disk for {places}, and {volume.free / _GB:.0f} GB are free: "
                "free some, or set STAR_CACHE, STAR_STATE or TMPDIR to folders of a larger disk."
            )


def _wanted(folder: str, facts: Facts, disk: Disk) -> int:
    """GB that must be free in one of our folders: room for what is not there yet, and a little in any case."""
    programs = 0 if facts.programs_cached else disk.programs
    images = 0 if facts.images_built else disk.images
    if folder == "cache":
        return max(1, programs + images)
    if folder == "state":
        return 0 if facts.cluster_made else disk.cluster
    return disk.temporary if programs or images else 1


def _rights(facts: Facts, needs: Needs) -> Iterator[str]:
    if needs.containers and not facts.root:
        yield (
            "This runs containers and needs root, or a Docker engine that answers: use sudo, or start Docker "
            "(starctl local up --control-plane-only is an API server without pods, and needs neither)."
        )
    if not needs.node:
        return
    lacking = sorted(_CONTROLLERS - facts.controllers)
    if lacking:
        yield (
            f"No control group has {_listed(lacking)}: mount the cgroup file system whole "
            "(in a container: --privileged --cgroupns=host)."
        )
    if facts.root and not (facts.groups_writable and facts.sysctls_writable):
        what = "control groups" if facts.sysctls_writable else "kernel parameters (/proc/sys)"
        yield f"The {what} are read-only here, and a node sets them: in a container, start it with --privileged."


def _occupied(facts: Facts, needs: Needs) -> Iterator[str]:
    for port in sorted(facts.taken_ports.intersection(needs.ports)):
        yield f"Port {port} of 127.0.0.1 is taken by another program: end it, or take its cluster down."
    if needs.node and facts.other_cluster:
        yield (
            f"The cluster in {facts.other_cluster} has this machine's pod network, and only one embedded cluster runs "
            "at a time: take that one down first (starctl local down)."
        )


def _network(facts: Facts) -> Iterator[str]:
    for name, why in facts.unreachable.items():
        if name != "releases":  # Go builds the same programs
            yield f"No {name} can be had ({why}): connect this machine, or name a mirror to pip or Go."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
