"""`starctl`: the commands, one group a subject. Each group is a typer app of its own, mounted here."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from star_cli import promotion as promotion_commands
from star_cli import retention as retention_commands
from star_cli.checkpoints.cli import app as checkpoint_app
from star_cli.demo import cli as demo_commands
from star_cli.errors import StarctlError
from star_cli.gatewaykey import gateway_key_command
from star_cli.images.cli import app as images_app
from star_cli.images.errors import ImagesError
from star_cli.local.cli import app as local_app
from star_cli.local.errors import LocalClusterError
from star_cli.storepolicy import store_policy_command

app = typer.Typer(
    name="starctl",
    help="Distil a multi-agent recommender into one small model and serve it, on Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo_commands.demo)
app.command()(demo_commands.install)
app.command()(demo_commands.follow)
app.command()(retention_commands.gc)
app.command()(retention_commands.pin)
app.command()(retention_commands.unpin)
app.command("store-policy")(store_policy_command)
app.command("gateway-key")(gateway_key_command)
app.add_typer(checkpoint_app, name="checkpoint")
app.command("promote")(promotion_commands.promote_command)
app.command("approve")(promotion_commands.approve_command)
app.command("override")(promotion_commands.override_command)
app.command("hold")(promotion_commands.hold_command)
app.command("release")(promotion_commands.release_command)
app.add_typer(local_app, name="local")
app.add_typer(images_app, name="images")


@app.callback()
def _root() -> None:
    """Keep the groups as groups, however many there are."""


def main() -> None:
    """Run `starctl`; an error that a person can act on is shown as its sentence, and the exit status is 1."""
    try:
        app()
    except (StarctlError, LocalClusterError, ImagesError) as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
