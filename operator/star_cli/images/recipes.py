"""What goes into each image: its parent, and the files of the repository that its Dockerfile copies or mounts."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

REGISTRY = "localhost:5000"
BASE_PACKAGES = ("ca-certificates", "libgomp1", "libnuma1", "tini")
# Triton compiles its launchers when they are first used: a C compiler and Python's headers belong to a GPU image.
CUDA_PACKAGES = ("gcc", "libc6-dev", "python3-dev")
# What a promotion's Job runs. gnupg comes for signatures by OpenPGP keys.
GIT_PACKAGES = ("git", "gnupg", "openssh-client")


class Variant(StrEnum):
    """Which hardware an image is for."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Recipe:
    """How one image is made. `{variant}` in a text stands for the variant that is built."""

    name: str
    parent: str = "base"
    """Image it stands on; the base stands on what the user or the machine gives."""
    inputs: tuple[str, ...] = ()
    """Files and folders it is made from, relative to the repository; the Dockerfile's own folder comes by itself."""
    variants: tuple[Variant, ...] = (Variant.CPU,)
    """A role without a CUDA variant serves both kinds of pools with its CPU image."""
    role: bool = True
    """Whether pods run it; the others only carry roles."""
    parents: tuple[tuple[Variant, str], ...] = ()
    """Variants that stand on another image than `parent`."""

    @property
    def dockerfile(self) -> str:
        """Path of the Dockerfile, relative to the repository."""
        return f"images/{self.name}/Dockerfile"

    def parent_of(self, variant: Variant) -> str:
        """Name of the image that the variant stands on."""
        return dict(self.parents).get(variant, self.parent)

    def variant_for(self, wanted: Variant) -> Variant:
        """The variant that is built where `wanted` is asked for."""
        return wanted if wanted in self.variants else self.variants[0]

    def files(self, variant: Variant) -> tuple[str, ...]:
        """Files and folders of the repository that enter the variant."""
        return (f"images/{self.name}", *(path.format(variant=variant.value) for path in self.inputs))


_BOTH = (Variant.CPU, Variant.CUDA)
BUILD_LOCK = "images/locks/build.txt"
"""What builds the project's wheel; it is in no environment."""
_WHEEL = (BUILD_LOCK, "pyproject.toml", "LICENSE", "operator/star_contracts")
_JOBS = (*_WHEEL, "jobs/star_jobs")
_STUBS = ("operator/star_cli/images/elf.py", "operator/star_cli/images/cuda_stubs.py")

_RECIPES = (
    Recipe("base", parent="", role=False, variants=_BOTH),
    Recipe("torch", role=False, variants=_BOTH, inputs=("images/locks/torch-{variant}.txt", *_STUBS)),
    Recipe("vllm", parent="torch", variants=_BOTH, inputs=("images/locks/vllm-{variant}.txt", *_JOBS)),
    Recipe("trainer", parent="torch", variants=_BOTH, inputs=("images/locks/trainer-{variant}.txt", *_JOBS)),
    Recipe(
        "rollout",
        parent="torch",
        parents=((Variant.CUDA, "base"),),
        variants=_BOTH,
        inputs=("images/locks/rollout-{variant}.txt", *_JOBS),
    ),
    Recipe("jobs", inputs=("images/locks/jobs.txt", *_JOBS)),
    Recipe("gateway", parent="jobs", inputs=("images/locks/gateway.txt",)),
    Recipe("git", parent="jobs"),
    Recipe("operator", inputs=("images/locks/operator.txt", *_WHEEL, "operator/star_operator")),
)

RECIPES = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})
"""All images by name, parents first."""

ROLES = tuple(recipe.name for recipe in _RECIPES if recipe.role)
"""The images that pods run."""
