"""`starctl demo`, `starctl install` and `starctl follow`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from star_cli.errors import StarctlError
from star_cli.local.paths import DEFAULT_NAME

if TYPE_CHECKING:
    from star_cli.demo.manifests import Size
    from star_cli.demo.run import Options

AUTO = "auto"
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the resources.")]
Name = Annotated[str, typer.Option("--name", help="Name of the local cluster.")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Your cluster; default: the local one.")
]
Values = Annotated[list[Path] | None, typer.Option("--values", "-f", help="Helm values; later files win.")]
Root = Annotated[Path | None, typer.Option("--root", help="The repository. Default: this one.", file_okay=False)]


def demo(
    name: Name = DEFAULT_NAME,
    namespace: Namespace = "star-demo",
    size: Annotated[
        str, typer.Option("--size", help="auto: what this machine does in half an hour; demo, half, tiny, ...")
    ] = AUTO,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Use this cluster instead; needs --values.")
    ] = None,
    values: Values = None,
    store_endpoint: Annotated[
        str | None, typer.Option("--store-endpoint", help="With --kubeconfig: the store's URL as this machine sees it.")
    ] = None,
    minutes: Annotated[
        int | None,
        typer.Option("--minutes", min=1, help="Give the chain this long. Default: 60, or twice its estimate."),
    ] = None,
    root: Root = None,
) -> None:
    """From YAML to a served recommendation: cluster, images, operator, and the whole chain, on this machine."""
    from star_cli.demo.manifests import Size
    from star_cli.demo.run import Demo
    from star_cli.demo.target import local_target, own_target
    from star_cli.demo.way import Way, phases
    from star_cli.local.progress import Terminal

    if size not in (AUTO, *Size):
        raise StarctlError(f"--size is {size!r}; it is one of {', '.join((AUTO, *Size))}")
    console = Console()
    repository = find_root(root)
    given = None if size == AUTO else Size(size)
    options = fitted(repository, namespace, given, console if kubeconfig is None else None)
    if minutes is not None:
        options = replace(options, deadline_seconds=minutes * 60.0)
    way = Way.of(options, name if kubeconfig is None else None)
    reporter = Terminal(console, way.timeline)
    if kubeconfig is None:
        target = partial(local_target, name, repository, reporter)
    else:
        target = partial(own_target, kubeconfig, tuple(values or ()), repository, store_endpoint)
    result = Demo(options, target, console, reporter, partial(way.moved, reporter)).run()
    console.print(*phases(reporter.took, result.chain_seconds), sep="\n", markup=False, highlight=False)


def fitted(root: Path, namespace: str, given: "Size | None", measured: Console | None) -> "Options":
    """The demo's options. Where it runs on this machine, that is measured, and what follows is said on the console."""
    from star_cli.demo.manifests import Size
    from star_cli.demo.run import Options
    from star_cli.demo.sizing import lines, plan
    from star_cli.demo.speed import measure

    if measured is None:
        return Options(root, namespace, given or Size.DEMO, size_given=given is not None)
    speed = measure()
    found = plan(root, speed, given)
    for line in lines(found, speed):
        measured.print(line, markup=False, highlight=False, soft_wrap=True)
    return Options(root, namespace, found.size, given is not None, found.patience, found.limit_seconds, found.seconds)


def install(kubeconfig: Kubeconfig = None, name: Name = DEFAULT_NAME, values: Values = None, root: Root = None) -> None:
    """Install or upgrade the operator. In the local cluster it builds this checkout's images first."""
    from star_cli.demo.target import local_target
    from star_cli.host.needs import Purpose
    from star_cli.install import NAMESPACE, Chart
    from star_cli.local.binaries import Binaries
    from star_cli.local.progress import Terminal

    reporter = Terminal()
    repository = find_root(root)
    files = list(values or [])
    if kubeconfig is None:
        target = local_target(name, repository, reporter, Purpose.INSTALL)
        kubeconfig, files = target.kubeconfig, [*target.values, *files]
    helm = Binaries(reporter=reporter).ensure("helm")
    Chart(repository, helm, reporter).install(kubeconfig, files)
    typer.echo(f"the operator runs in namespace {NAMESPACE}")


def follow(
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Watch a namespace's resources until all have ended: phase, progress, time left, and why one waits."""
    from star_cli.follow import Watch
    from star_cli.follow import follow as watch
    from star_cli.local.cluster import LocalCluster
    from star_cli.local.kubeapi import KubeApi

    api = KubeApi(kubeconfig or LocalCluster(name).kubeconfig, timeout=30.0)
    try:
        if not watch(Watch(api, namespace), Console()):
            typer.echo(f"there are no STAR resources in namespace {namespace}")
    finally:
        api.close()


def find_root(given: Path | None) -> Path:
    """The repository: the given folder, else the first one upwards from here, else the one this program is from.

    Raises:
        StarctlError: none of them holds the chart.
    """
    here = Path.cwd()
    candidates = [given] if given else [here, *here.parents, Path(__file__).parents[3]]
    for folder in candidates:
        if (folder / "charts" / "star-operator" / "Chart.yaml").is_file():
            return folder.resolve()
    raise StarctlError(f"{given or here} is no checkout of the repository (it has no charts/star-operator): use --root")
