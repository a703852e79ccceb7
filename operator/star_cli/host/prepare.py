"""Before anything slow: see what the machine lacks, install what can be installed, and say the rest, all at once."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from star_cli.errors import StarctlError
from star_cli.host.facts import docker_reachable, probe
from star_cli.host.findings import judge, missing_packages, unsupported
from star_cli.host.kernel import missing_features
from star_cli.host.needs import Needs, Purpose, needs_of
from star_cli.host.packages import PackagesError, install_packages
from star_cli.host.search import find
from star_cli.local.paths import DEFAULT_NAME, cache_dir
from star_cli.local.versions import TOOLS

if TYPE_CHECKING:  # it draws with rich, which a bare machine has not
    from star_cli.local.progress import Reporter

_TRIED_WITH = ("unshare", "mount", "true", "ip", "nft")


def prepare_host(
    purpose: Purpose,
    reporter: "Reporter",
    *,
    cluster: str = DEFAULT_NAME,
    docker: bool | None = None,
    repository: Path | None = None,
) -> None:
    """Have the machine ready for a purpose; takes a second or two where it is.

    Args:
        purpose: what comes next.
        reporter: shows the installation.
        cluster: name of the local cluster that will run, whose ports are its own.
        docker: whether a Docker engine is to be used; None: where one answers.
        repository: whose development environment is to be made; None: it is there.

    Raises:
        StarctlError: everything that the machine cannot provide, a sentence each.
    """
    _refuse(unsupported(f"{platform.system()} {platform.machine()}"))
    answers = docker_reachable() if docker is not False else False
    needs = needs_of(purpose, docker=answers if docker is None else docker)
    facts = probe(needs, cluster, docker=answers, repository=repository)
    findings = judge(facts, needs)
    _refuse(findings.problems)
    if findings.packages:
        with reporter.step(f"install Debian packages {', '.join(findings.packages)}"):
            _install(findings.packages)
        facts = probe(needs, cluster, docker=answers, repository=repository)
        _refuse([_useless(name) for name in missing_packages(facts, needs)])
    _refuse(_features(needs))


def _install(packages: tuple[str, ...]) -> None:
    try:
        install_packages(packages)
    except PackagesError as error:
        raise StarctlError(
            f"{error}\nSee that Debian's archive is in reach (/etc/apt), then run this again."
        ) from error


def _useless(package: str) -> str:
    names = ", ".join(tool.name for tool in TOOLS.values() if package in (tool.debian, *tool.debian_with)) or package
    return f"Debian package {package} is installed, and still {names} is not here in a version that fits: install that."


def _features(needs: Needs) -> list[str]:
    if not needs.containers:
        return []
    found = {name: find(TOOLS[name]) for name in _TRIED_WITH}
    programs = {name: path for name, path in found.items() if path is not None}
    return missing_features(programs, cache_dir(), node=needs.node)


def _refuse(problems: "list[str] | tuple[str, ...]") -> None:
    if problems:
        raise StarctlError("this machine is not ready:\n" + "\n".join(f"- {problem}" for problem in problems))
