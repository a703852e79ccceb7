"""The progress reports of running jobs since this process began to lead, in memory: their sums are in the statuses.

Who reports is known by its namespace alone, and may name what there is not: so all is kept by namespace, under the name
and UID that were told, and bounded within each. No namespace's reports are read for another's resource, and none pushes
out another's while it has its own to lose.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from star_contracts.progress import MAX_METRICS, ProgressReport

MAX_STEPS = 16
"""Of one resource, over its attempts. The oldest are dropped."""
STEP_WEIGHT = 8
"""A shard, and a metric, weigh 1: some 150 bytes."""
MAX_WEIGHT_EACH = 200_000
"""Of a namespace: some runs of the most shards there can be, or 15,000 small ones. The longest silent one goes."""
MAX_WEIGHT = 800_000
"""Of all: beyond it the heaviest namespace loses its own so."""


@dataclass(frozen=True)
class Place:
    """Whose progress it is."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass
class Reported:
    """What a step's shards have reported."""

    shards: int = 1
    """How many there are, as they say."""
    unit: str = ""
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """What is done and what is to be done, by shard."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest figure of each name; the first names that come are kept."""

    @property
    def weight(self) -> int:
        """How much it takes."""
        return STEP_WEIGHT + len(self.counts) + len(self.metrics)

    def take(self, report: ProgressReport) -> None:
        """Keep a report in place of the shard's last one."""
        self.shards = max(self.shards, report.shards)
        self.unit = report.unit
        self.counts[report.shard] = report.done, report.total
        merge_metrics(self.metrics, report.metrics, MAX_METRICS)


def merge_metrics(into: dict[str, float], figures: Mapping[str, float], most: int) -> None:
    """Put the figures into others, as long as these have no more than so many names."""
    for name, value in figures.items():
        if name in into or len(into) < most:
            into[name] = value


@dataclass
class _Shelf:
    """What a namespace's pods have reported; the last resource has reported last."""

    weight: int = 0
    resources: OrderedDict[Place, OrderedDict[tuple[int, str], Reported]] = field(default_factory=OrderedDict)

    def take(self, place: Place, report: ProgressReport) -> None:
        steps = self.resources.setdefault(place, OrderedDict())
        self.resources.move_to_end(place)
        key = report.target.attempt, report.target.step
        if (step := steps.get(key)) is None:
            step = steps[key] = Reported()
        else:
            self.weight -= step.weight
        step.take(report)
        self.weight += step.weight
        while len(steps) > MAX_STEPS:
            self.weight -= steps.popitem(last=False)[1].weight

    def drop(self, place: Place) -> None:
        self.weight -= sum(step.weight for step in self.resources.pop(place, {}).values())

    def drop_oldest(self) -> None:
        self.drop(next(iter(self.resources)))


class ProgressBoard:
    """The latest report of every shard."""

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self.weight = 0
        """How much all of it takes."""

    def report(self, report: ProgressReport) -> None:
        """Keep a report in place of the shard's last one."""
        target = report.target
        shelf = self._shelves.setdefault(target.namespace, _Shelf())
        before = shelf.weight
        shelf.take(Place(target.kind, target.namespace, target.name, target.uid), report)
        while shelf.weight > MAX_WEIGHT_EACH:
            shelf.drop_oldest()
        self.weight += shelf.weight - before
        while self.weight > MAX_WEIGHT:
            heaviest = max(self._shelves, key=lambda name: self._shelves[name].weight)
            self._drop(heaviest, next(iter(self._shelves[heaviest].resources)))

    def of(self, place: Place, attempt: int, step: str) -> Reported | None:
        """Return what a step's shards have reported last, or None when none has."""
        shelf = self._shelves.get(place.namespace, _Shelf())
        return shelf.resources.get(place, OrderedDict()).get((attempt, step))

    def forget(self, place: Place) -> None:
        """Drop what was reported for a resource that has ended."""
        self._drop(place.namespace, place)

    def _drop(self, namespace: str, place: Place) -> None:
        shelf = self._shelves.get(namespace)
        if shelf is None:
            return
        before = shelf.weight
        shelf.drop(place)
        self.weight += shelf.weight - before
        if not shelf.resources:
            del self._shelves[namespace]
