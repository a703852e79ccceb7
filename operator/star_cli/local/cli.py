"""`starctl local`: the commands of the local cluster."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from star_cli.host.needs import Purpose
from star_cli.host.prepare import prepare_host
from star_cli.local.binaries import Binaries
from star_cli.local.cluster import ClusterStatus, Engine, LocalCluster, check_kubeconfig
from star_cli.local.errors import LocalClusterError
from star_cli.local.paths import DEFAULT_NAME
from star_cli.local.progress import Terminal
from star_cli.local.versions import EMBEDDED

app = typer.Typer(help="A local Kubernetes cluster, for people with none.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", help="Name of the cluster.")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Use the cluster of this kubeconfig: it is only checked.")
]


@app.command()
def up(
    name: Name = DEFAULT_NAME,
    engine: Annotated[Engine, typer.Option(help="auto: kind where Docker runs, else embedded.")] = Engine.AUTO,
    control_plane_only: Annotated[
        bool, typer.Option("--control-plane-only", help="API server without nodes; needs no root.")
    ] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Have a cluster running: make it, repair what died, or find that all is well."""
    if kubeconfig is not None:
        _check(kubeconfig)
        return
    wanted = Engine.CONTROL_PLANE if control_plane_only else engine
    cluster = LocalCluster(name, Terminal())
    cluster.prepare(wanted)
    made = cluster.up(wanted)
    typer.echo(f"cluster {name} ({made}) is up")
    typer.echo(f"  export KUBECONFIG={cluster.kubeconfig}")
    if made is not Engine.CONTROL_PLANE:
        typer.echo("  kubectl get nodes          (kubectl and helm: starctl local binaries kubectl helm)")
        typer.echo(f"  starctl local store-secret --name {name} NAMESPACE   (S3 access for a namespace)")
    typer.echo(f"  starctl local down --name {name}   removes it")


@app.command()
def status(name: Name = DEFAULT_NAME, kubeconfig: Kubeconfig = None) -> None:
    """Show what runs. The exit status is 0 where all is well, 1 otherwise."""
    if kubeconfig is not None:
        _check(kubeconfig)
        return
    found = LocalCluster(name).status()
    if found.engine is None:
        raise LocalClusterError(f"there is no cluster {name}; starctl local up --name {name} makes one")
    _show(found)
    if not found.well:
        typer.echo(f"not well; `starctl local up --name {name}` repairs it")
        raise typer.Exit(1)


@app.command()
def down(name: Name = DEFAULT_NAME) -> None:
    """Remove the cluster and all of its data. The cache (programs, images) stays."""
    there = LocalCluster(name, Terminal()).down()
    typer.echo(f"cluster {name} is gone" if there else f"there was no cluster {name}")


@app.command("store-secret")
def store_secret(
    namespace: Annotated[str, typer.Argument(help="An existing namespace.")], name: Name = DEFAULT_NAME
) -> None:
    """Give a namespace the Secret by which its pods reach the local S3 server."""
    LocalCluster(name).write_store_secret(namespace)
    typer.echo(f"Secret star-store is in namespace {namespace}")


@app.command("binaries")
def bring_binaries(
    names: Annotated[list[str] | None, typer.Argument(help="Programs; all of them by default.")] = None,
) -> None:
    """Bring the cluster's programs to this machine, and print where each is."""
    reporter = Terminal()
    if not names:
        prepare_host(Purpose.PROGRAMS, reporter)
    for name, path in Binaries(reporter=reporter).ensure_all(names or EMBEDDED).items():
        typer.echo(f"{name}\t{path}")


def _check(kubeconfig: Path) -> None:
    ready, nodes = check_kubeconfig(kubeconfig)
    if not ready:
        raise LocalClusterError(f"the API server of {kubeconfig} is not ready; is that cluster up?")
    typer.echo(f"the cluster of {kubeconfig} answers; nodes: {len(nodes)}, ready: {sum(well for _, well in nodes)}")


def _show(found: ClusterStatus) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("COMPONENT", "STATE", "PID", "UP", "LOG"):
        table.add_column(column, no_wrap=column != "LOG")
    table.add_row("API", "ready" if found.api_ready else "[red]not ready[/]", "", "", str(found.kubeconfig))
    for node, ready in found.nodes:
        table.add_row(f"node {node}", "ready" if ready else "[red]not ready[/]")
    for component in found.components:
        state = "running" if component.pid is not None else "[red]dead[/]"
        seconds = "" if component.seconds is None else _duration(component.seconds)
        table.add_row(component.name, state, str(component.pid or ""), seconds, str(component.log))
    Console().print(table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
