"""Makes what a plan asks for: skips what the registry holds, builds the rest parents first, pushes, says where."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from star_cli.images import rootfs
from star_cli.images.content import lay_out
from star_cli.images.engine import Buildah, BuildRequest, Docker, choose
from star_cli.images.errors import DamagedStorageError
from star_cli.images.hostconfig import CODENAME, local_folders, write_tools
from star_cli.images.plan import Options, PlannedImage, chart_values, plan
from star_cli.images.registry import Registry, reachable, tag_folder
from star_cli.local.binaries import Binaries
from star_cli.local.files import locked, write_atomic
from star_cli.local.progress import Reporter


@dataclass
class Builder:
    """Builds images from one checkout. Runs beside each other wait: each builds what the other has not."""

    root: Path
    """The repository."""
    cache: Path
    reporter: Reporter
    options: Options = field(default_factory=Options)

    def run(self, roles: Iterable[str], *, push: bool = True) -> list[PlannedImage]:
        """Have the images of `roles` (all for none) in the registry, or with push=False in the engine's storage.

        Returns:
            The images of the roles, and those that they stand on.

        Raises:
            ImagesError: something is missing or a build fails.
        """
        with self._workshop() as workshop:
            images = workshop.plan(list(roles))
            with locked(self.cache / ".images.lock"):
                if push:
                    with reachable(self.options.registry, Binaries(self.cache, self.reporter)) as registry:
                        self._bring(workshop, registry, [image for image in images if image.role])
                else:
                    workshop.make_all([image for image in images if image.role])
        return images

    @contextmanager
    def _workshop(self) -> Iterator["_Workshop"]:
        scratch = self.cache / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="images-") as folder:
            yield _Workshop(self, Path(folder))

    def make_missing(self) -> None:
        """Build what the local registry's storage lacks, without pushing it: while there is no registry yet.

        Raises:
            ImagesError: something is missing or a build fails.
        """
        with self._workshop() as workshop, locked(self.cache / ".images.lock"):
            images = [image for image in workshop.plan([]) if image.role]
            workshop.make_all([image for image in images if not stored(self.cache, image)])

    def _bring(self, workshop: "_Workshop", registry: Registry, images: Iterable[PlannedImage]) -> None:
        missing = []
        for image in images:
            if registry.has(image.repository, image.tag):
                self.reporter.note(f"{image.reference} is there")
                self.reporter.skip(f"image {image.name}", f"push {image.name}")
            else:
                missing.append(image)
        if not missing:
            return
        try:
            self._push(workshop.make_all(missing), registry, missing)
        except DamagedStorageError as damaged:
            self.reporter.note(f"all images are built anew, as what was built is not whole any more: {damaged}")
            choose(self.cache).clear()
            self._push(workshop.make_all(missing), registry, missing)

    def _push(self, engine: Buildah | Docker, registry: Registry, images: Iterable[PlannedImage]) -> None:
        for image in images:
            with self.reporter.step(f"push {image.reference}", f"push {image.name}"):
                engine.push(image.reference, registry.address, secure=not registry.local)


def stored(cache: Path, image: PlannedImage) -> bool:
    """Whether the local registry's storage has the image, whether or not it runs."""
    return tag_folder(cache / "registry", image.repository, image.tag).is_dir()


def _with_parents(images: Iterable[PlannedImage]) -> list[PlannedImage]:
    """The images and all they stand on, parents first, each once."""
    found: dict[str, PlannedImage] = {}
    for image in images:
        line: list[PlannedImage] = []
        step: PlannedImage | None = image
        while step:
            line.append(step)
            step = step.parent
        found.update((each.reference, each) for each in reversed(line))
    return list(found.values())


def _stands(engine: "Buildah | Docker", image: PlannedImage, wanted: Sequence[PlannedImage]) -> bool:
    """Whether nothing must be built for this image: it is there, or it only carried images that are."""
    if engine.has(image.reference):
        return True
    return not image.role and all(engine.has(each.reference) for each in wanted if image in _with_parents([each]))


class _Workshop:
    """One run's scratch folder: a copy of the sources as they were when it began, the tools, the build contexts."""

    def __init__(self, builder: Builder, folder: Path) -> None:
        self._builder = builder
        self._folder = folder
        self._tools = folder / "tools"
        self._sources = folder / "sources"

    def plan(self, roles: list[str]) -> list[PlannedImage]:
        """The plan, made from a copy of the sources: what is edited meanwhile enters neither tags nor images."""
        builder = self._builder
        first = plan(builder.root, roles, builder.options)
        lay_out(builder.root, sorted({file for image in first for file in image.files}), self._sources)
        return plan(self._sources, roles, builder.options)

    def make_all(self, wanted: Sequence[PlannedImage]) -> "Buildah | Docker":
        """Build what the engine lacks of the images and what they stand on. Returns the engine that has them."""
        engine = choose(self._builder.cache)
        needed = [image for image in _with_parents(wanted) if not _stands(engine, image, wanted)]
        if needed:
            indexes = write_tools(self._tools)
            for image in needed:
                self._make(engine, image, local_folders(indexes))
        return engine

    def _make(self, engine: "Buildah | Docker", image: PlannedImage, folders: list[Path]) -> None:
        arguments, pull = dict(image.arguments), False
        if image.parent:
            arguments["PARENT"] = image.parent.reference
        else:
            arguments["BASE_IMAGE"], pull = self._base(engine, image)
        context = self._folder / image.name
        lay_out(self._sources, image.files, context)
        uv_cache = self._builder.cache / "uv"
        uv_cache.mkdir(parents=True, exist_ok=True)
        request = BuildRequest(
            image.reference, image.dockerfile, context, self._tools, arguments, uv_cache, folders, pull
        )
        log = self._builder.cache / "logs" / f"image-{image.name}-{image.variant.value}.log"
        with self._builder.reporter.step(f"build {image.reference}", f"image {image.name}") as step:
            engine.build(request, log, lambda done, total: step.advance(done, total, "steps"))

    def _base(self, engine: "Buildah | Docker", image: PlannedImage) -> tuple[str, bool]:
        """The image that the base stands on, and whether it is pulled."""
        chosen = self._builder.options.base_image or engine.default_base
        if chosen or isinstance(engine, Docker):
            return chosen, True
        packages = image.arguments["PACKAGES"].split()
        reference = rootfs.reference(self._builder.options.registry, packages)
        if not engine.has(reference):
            with self._builder.reporter.step(f"make Debian {CODENAME} with Python", "image rootfs"):
                archive = rootfs.make(packages, self._folder, self._tools / "certificates.pem")
                engine.import_rootfs(archive, reference)
                archive.unlink()
        return reference, False


def write_values(images: Iterable[PlannedImage], options: Options, target: Path) -> None:
    """Write the references as a values file for Helm, atomically."""
    text = yaml.safe_dump(chart_values(images, options.variant), sort_keys=False)
    write_atomic(target, f"# Written by `starctl images build`; give it to helm with --values.\n{text}")
