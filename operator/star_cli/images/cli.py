"""`starctl images`: build the images, make their locks, and make their environments on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from star_cli.errors import StarctlError
from star_cli.host.needs import Purpose
from star_cli.host.prepare import prepare_host
from star_cli.images import locks as lockfiles
from star_cli.images import venvs
from star_cli.images.build import Builder, write_values
from star_cli.images.engine import Buildah, choose
from star_cli.images.errors import ImagesError
from star_cli.images.hostconfig import find_uv
from star_cli.images.plan import Options
from star_cli.images.plan import plan as plan_images
from star_cli.images.prune import prune as prune_images
from star_cli.images.recipes import REGISTRY, Variant
from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Terminal

app = typer.Typer(help="Container images of the operator and of the stages.", no_args_is_help=True)

Roles = Annotated[list[str] | None, typer.Option("--role", help="Only this role; may be repeated. Default: all.")]
Which = Annotated[Variant, typer.Option("--variant", help="Hardware that the ML images are for.")]
Address = Annotated[str, typer.Option("--registry", envvar="STAR_REGISTRY", help="host:port of the registry.")]
Base = Annotated[
    str,
    typer.Option(
        "--base-image",
        envvar="STAR_BASE_IMAGE",
        help="Debian 12 with Python 3.11 to stand on. Default: made here, with Docker python:3.11-slim-bookworm.",
    ),
]
Torch = Annotated[
    str, typer.Option("--torch-index", envvar="STAR_TORCH_INDEX", help="URL of an index with PyTorch's own builds.")
]
Root = Annotated[Path, typer.Option("--root", help="The repository.", file_okay=False, exists=True)]


@app.command()
def build(
    role: Roles = None,
    variant: Which = Variant.CPU,
    registry: Address = REGISTRY,
    base_image: Base = "",
    torch_index: Torch = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write the references there, as Helm values.")] = None,
    push: Annotated[bool, typer.Option(help="Push to the registry; else they stay in the engine's storage.")] = True,
    root: Root = Path(),
) -> None:
    """Build what the registry does not hold yet, and push it."""
    options = Options(variant, registry, base_image, torch_index)
    reporter = Terminal()
    prepare_host(Purpose.IMAGES, reporter)
    builder = Builder(root.resolve(), cache_dir(), reporter, options)
    images = builder.run(role or [], push=push)
    if out is not None:
        write_values(images, options, out)
        typer.echo(f"the references are in {out}")
        return
    for image in images:
        if image.role:
            typer.echo(image.reference)


@app.command()
def plan(
    role: Roles = None,
    variant: Which = Variant.CPU,
    registry: Address = REGISTRY,
    base_image: Base = "",
    torch_index: Torch = "",
    root: Root = Path(),
) -> None:
    """Show which images there would be, and what each stands on; builds nothing."""
    table = Table("image", "stands on", "files", box=None)
    for image in plan_images(root.resolve(), role or [], Options(variant, registry, base_image, torch_index)):
        table.add_row(image.reference, image.below or "this machine's base", str(len(image.files)))
    Console().print(table)


@app.command()
def locks(
    names: Annotated[list[str] | None, typer.Argument(help="Locks to make; default: all.")] = None,
    upgrade: Annotated[bool, typer.Option(help="Take the newest versions, not those that are locked.")] = False,
    check: Annotated[bool, typer.Option(help="Only say which are out of date; exit status 1 if any is.")] = False,
    root: Root = Path(),
) -> None:
    """Make the dependency locks anew from pyproject.toml and images/locks/*.in."""
    stale = False
    for spec in lockfiles.by_name(names or []):
        if check:
            file = root / spec.file
            current = file.exists() and lockfiles.in_sync(root, spec)
            stale = stale or not current
            typer.echo(f"{spec.file} {'is up to date' if current else 'is out of date; run: make locks'}")
        else:
            changed = lockfiles.compile_lock(root.resolve(), spec, upgrade=upgrade, uv=str(find_uv()))
            typer.echo(f"{spec.file} {'has new pins' if changed else 'has the same pins'}")
    if stale:
        raise typer.Exit(1)


@app.command()
def venv(
    roles: Annotated[list[str], typer.Argument(help="Roles, such as trainer.")],
    variant: Which = Variant.CPU,
    root: Root = Path(),
) -> None:
    """Make the Python environment of an image on this machine, for trying code without an image."""
    for role in roles:
        with Terminal().step(f"environment of {role}"):
            target = venvs.make(root.resolve(), cache_dir(), role, variant)
        typer.echo(str(target))


@app.command()
def prune(
    registry: Annotated[bool, typer.Option(help="Also the local registry, which must not run.")] = True,
    base_image: Base = "",
    torch_index: Torch = "",
    root: Root = Path(),
) -> None:
    """Remove the images of earlier sources from buildah's storage and from the local registry."""
    engine = choose(cache_dir())
    if not isinstance(engine, Buildah):
        raise ImagesError("Docker keeps its images itself; remove them with: docker image prune")
    kept = {
        image.reference
        for variant in Variant
        for image in plan_images(root.resolve(), [], Options(variant, REGISTRY, base_image, torch_index))
    }
    binaries = Binaries(cache_dir(), Terminal())
    for sentence in prune_images(engine, binaries, REGISTRY, kept, registry=registry):
        typer.echo(sentence)


def main() -> None:
    """Run the commands on their own: `python -m star_cli.images`."""
    try:
        app(prog_name="star_cli.images")
    except (ImagesError, LocalClusterError, StarctlError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
