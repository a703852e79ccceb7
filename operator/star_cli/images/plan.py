"""Which images must be made, in which order, under which tags. Pure but for reading the repository's files.

A tag is `<registry>/star/<name>:<variant>-<hash>`; the hash covers the Dockerfile, everything that it copies, its
build arguments and the parent's tag. So a tag that is there already needs no build, on any machine.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from star_cli.images.content import content_hash, files_below
from star_cli.images.errors import ImagesError
from star_cli.images.recipes import BASE_PACKAGES, CUDA_PACKAGES, GIT_PACKAGES, RECIPES, REGISTRY, ROLES, Variant


@dataclass(frozen=True)
class Options:
    """What a user may choose about the images."""

    variant: Variant = Variant.CPU
    registry: str = REGISTRY
    """host:port that references begin with."""
    base_image: str = ""
    """Image to stand on; empty: the engine's way of getting one."""
    torch_index: str = ""
    """Index with PyTorch's own builds; empty: the usual index."""


@dataclass(frozen=True)
class PlannedImage:
    """One image to make."""

    name: str
    variant: Variant
    reference: str
    """Full reference, `<registry>/star/<name>:<variant>-<hash>`."""
    dockerfile: str
    files: tuple[str, ...]
    """Files of its build context, relative to the repository."""
    arguments: dict[str, str] = field(default_factory=dict)
    """Build arguments of the Dockerfile, but for those that name another image."""
    below: str = ""
    """What it stands on, as the hash counts it."""
    parent: "PlannedImage | None" = None
    role: bool = True

    @property
    def repository(self) -> str:
        """Repository within the registry: `star/<name>`."""
        return self.reference.rpartition(":")[0].partition("/")[2]

    @property
    def tag(self) -> str:
        """`<variant>-<hash>`."""
        return self.reference.rpartition(":")[2]

    def hash_in(self, root: Path) -> str:
        """The hash that its files have in folder `root`."""
        return content_hash(root, self.files, {**self.arguments, "FROM": self.below})


def plan(root: Path, roles: Iterable[str], options: Options) -> list[PlannedImage]:
    """The images of `roles` (all roles for none) and what they stand on, parents first.

    Raises:
        ImagesError: there is no such role, or a file of the repository is missing.
    """
    wanted = list(roles) or list(ROLES)
    for role in wanted:
        if role not in ROLES:
            raise ImagesError(f"there is no image role {role!r}; the roles are {', '.join(ROLES)}")
    made: dict[tuple[str, Variant], PlannedImage] = {}
    for role in (name for name in RECIPES if name in wanted):
        _add(root, role, RECIPES[role].variant_for(options.variant), options, made)
    return list(made.values())


def _add(
    root: Path, name: str, variant: Variant, options: Options, made: dict[tuple[str, Variant], PlannedImage]
) -> PlannedImage:
    if (name, variant) in made:
        return made[name, variant]
    recipe = RECIPES[name]
    parent_name = recipe.parent_of(variant)
    parent = _add(root, parent_name, variant, options, made) if parent_name else None
    files = tuple(files_below(root, recipe.files(variant)))
    arguments = _arguments(name, variant, options)
    below = f"{parent.name}:{parent.tag}" if parent else options.base_image
    tag = f"{variant.value}-{content_hash(root, files, {**arguments, 'FROM': below})}"
    image = PlannedImage(
        name=name,
        variant=variant,
        reference=f"{options.registry}/star/{name}:{tag}",
        dockerfile=recipe.dockerfile,
        files=files,
        arguments=arguments,
        below=below,
        parent=parent,
        role=recipe.role,
    )
    made[name, variant] = image
    return image


def _arguments(name: str, variant: Variant, options: Options) -> dict[str, str]:
    """Build arguments that the image's Dockerfile declares, but for those that name another image."""
    if name == "base":
        extra = CUDA_PACKAGES if variant is Variant.CUDA else ()
        return {"PACKAGES": " ".join((*BASE_PACKAGES, *extra))}
    if name == "git":
        return {"PACKAGES": " ".join(GIT_PACKAGES)}
    arguments = {"VARIANT": variant.value} if len(RECIPES[name].variants) > 1 else {}
    if name == "torch" and options.torch_index:
        arguments["TORCH_INDEX"] = options.torch_index
    return arguments


def chart_values(images: Iterable[PlannedImage], variant: Variant) -> dict[str, object]:
    """The references as values of the Helm chart: `image` (the operator) and `images.<variant>.<role>`."""
    references = {image.name: image.reference for image in images if image.role}
    values: dict[str, object] = {}
    if "operator" in references:
        values["image"] = references.pop("operator")
    if references:
        values["images"] = {variant.value: references}
    return values
