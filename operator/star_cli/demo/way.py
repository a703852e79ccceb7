"""The demo's whole way, for its one bar: which parts there are, and what each needs on two quiet cores.

The figures are those of docs/demo.md. They need not be right for a machine: the pace seen corrects them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from star_cli.demo import manifests, run
from star_cli.demo.target import builds_programs
from star_cli.follow import Row
from star_cli.images.build import stored
from star_cli.images.plan import Options, plan
from star_cli.images.recipes import RECIPES, ROLES
from star_cli.local.cluster import LocalCluster
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Terminal, clock_text
from star_cli.local.timeline import Leg, Timeline
from star_cli.local.versions import CLUSTER_MODULE
from star_operator.api.meta import Phase

_PROGRAM_SECONDS = {"kube-apiserver": 200.0, "kube-controller-manager": 80.0, "kubelet": 60.0, "versitygw": 60.0}
_OTHER_PROGRAM_SECONDS = 20.0
_IMAGE_SECONDS = {"rootfs": 60.0, "base": 15.0, "torch": 60.0, "vllm": 50.0, "trainer": 50.0, "rollout": 50.0}
_OTHER_IMAGE_SECONDS = 20.0
_PUSH_SECONDS = 15.0
_SETUP = {"control plane": 6.0, "services": 4.0, "node": 6.0, "operator": 15.0, "data": 5.0, "import": 40.0}
_STAGE_WEIGHTS = {
    "Verbalization": 140.0,
    "TeacherRun": 400.0,
    "SFTJob": 240.0,
    "GRPOJob": 330.0,
    "StarDeployment": 100.0,
}
_OTHER_STAGE_WEIGHT = 10.0
_DONE = frozenset({Phase.SUCCEEDED, Phase.READY})
_WORTH_TELLING_SECONDS = 5.0


@dataclass(frozen=True)
class Way:
    """The way of one run."""

    timeline: Timeline

    @classmethod
    def of(cls, demo: run.Options, cluster: str | None) -> "Way":
        """The way from here: what the machine has already is no part of it.

        Args:
            demo: what is run.
            cluster: name of the local cluster; None where the cluster is the user's own.
        """
        root = demo.root
        stages = stage_seconds(["/".join(manifests.key(one)) for one in manifests.load(root, demo.size)], demo)
        if cluster is None:
            return cls(Timeline(legs((), (), stages)))
        roles = (image for image in plan(root, [], Options()) if image.role)
        images = with_parents(image.name for image in roles if not stored(cache_dir(), image))
        return cls(Timeline(legs(builds_programs(LocalCluster(cluster)), images, stages)))

    def moved(self, terminal: Terminal, rows: Sequence[Row]) -> str:
        """Move the bar by what the resources say of themselves; returns how far all of it is."""
        for row in rows:
            self.timeline.advance(row.name, 1.0 if row.phase in _DONE else row.share or 0.0)
        return terminal.left_text()


def stage_seconds(stages: Iterable[str], demo: run.Options) -> dict[str, float]:
    """What each resource (`Kind/name`) takes of the time that the chain is expected to take."""
    weights = {stage: _STAGE_WEIGHTS.get(stage.partition("/")[0], _OTHER_STAGE_WEIGHT) for stage in stages}
    total = sum(weights.values())
    return {stage: demo.expected_seconds * weight / total for stage, weight in weights.items()}


def legs(programs: Iterable[str], images: Collection[str], stages: Mapping[str, float]) -> list[Leg]:
    """The parts of a run.

    Args:
        programs: those that are built from source.
        images: names of those that the registry lacks, with what they stand on.
        stages: seconds of each resource, `Kind/name`.
    """
    built = sum(_PROGRAM_SECONDS.get(name, _OTHER_PROGRAM_SECONDS) for name in programs)
    made = [*(("rootfs",) if "base" in images else ()), *images]
    return [
        Leg(f"{CLUSTER_MODULE} programs", built),
        *(Leg(f"image {name}", _IMAGE_SECONDS.get(name, _OTHER_IMAGE_SECONDS)) for name in made),
        *(Leg(f"push {name}", _PUSH_SECONDS) for name in images if name in ROLES),
        *(Leg(name, seconds) for name, seconds in _SETUP.items()),
        *(Leg(stage, seconds) for stage, seconds in stages.items()),
    ]


def with_parents(roles: Iterable[str]) -> list[str]:
    """Names of images and of all that they stand on, parents first."""
    wanted = set(roles)
    for name in reversed(RECIPES):
        if name in wanted and RECIPES[name].parent:
            wanted.add(RECIPES[name].parent)
    return [name for name in RECIPES if name in wanted]


def phases(took: Iterable[tuple[str, float]], chain_seconds: float) -> list[str]:
    """Where the time went, a line a part; images are built beside the programs, so that parts may overlap."""
    told = [(title, seconds) for title, seconds in took if seconds >= _WORTH_TELLING_SECONDS]
    rows = [*told, ("the chain, from apply to the live endpoint", chain_seconds)]
    return ["", "Where the time went:", *(f"  {clock_text(seconds):>7}  {title}" for title, seconds in rows)]
