"""`starctl local`: the commands of the local cluster."""

from typing import Annotated

import typer

from star_cli.local.binaries import Binaries
from star_cli.local.progress import Terminal
from star_cli.local.versions import CLIENTS, CONTROL_PLANE, CONTROLLERS, NODE

app = typer.Typer(help="A local Kubernetes cluster, for people with none.", no_args_is_help=True)


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Programs to fetch; all of them by default.")] = None,
) -> None:
    """Bring the cluster's programs to this machine, and print where each is."""
    binaries = Binaries(reporter=Terminal())
    for name in names or [*CONTROL_PLANE, *CONTROLLERS, *CLIENTS, *NODE]:
        typer.echo(f"{name}\t{binaries.ensure(name)}")
