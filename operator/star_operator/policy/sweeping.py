"""What a sweep of the store is told: (what is let go, what pods are told) -> prefixes to mark, and what to spare."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from star_contracts.base import value_hash
from star_contracts.job import JobSpec, Store
from star_contracts.retention import Letting, SweepSpec, namespace_root
from star_operator.policy.holdings import Thing, Told, places
from star_operator.policy.retention import Decision, LetGo

MAX_PREFIXES = 500
"""In one sweep, as its ConfigMap holds a MiB; the rest follows in the next one."""


@dataclass(frozen=True)
class Going:
    """A resource that is let go, with its prefixes in the store."""

    let_go: LetGo
    prefixes: tuple[Letting, ...]

    def is_marked(self, sweep: SweepSpec | None) -> bool:
        """Say whether a sweep that has ended well marked all of it."""
        marked = {letting.uri for letting in sweep.let_go} if sweep is not None else set()
        return all(letting.uri in marked for letting in self.prefixes)


def at_work(things: Iterable[Thing], told: Iterable[Told]) -> list[Told]:
    """Return what is told to pods that may still run: all but those of resources that have ended."""
    ended = {one.uid for one in things if one.ended}
    return [one for one in told if one.owner not in ended]


def in_use(things: Sequence[Thing], told: Iterable[Told]) -> dict[str, str]:
    """Return why pods need artifacts, by digest."""
    titles = {one.uid: one.title for one in things}
    return {
        digest: f"a pod of {titles.get(one.owner, 'a server')} is told to read it"
        for one in at_work(things, told)
        for digest in one.digests
    }


def going(decision: Decision, things: Iterable[Thing], told: Sequence[Told], root: str) -> list[Going]:
    """Return what may go now, with its prefixes; `root` is `<store>/<namespace>`.

    A pipeline goes after all that belongs to it: Kubernetes would take that along, unmarked.
    """
    owners = {one.owner for one in things}
    jobs: dict[str, list[JobSpec]] = {}
    for one in told:
        if one.job is not None:
            jobs.setdefault(one.owner, []).append(one.job)
    return [
        Going(one, _prefixes(one, jobs.get(one.thing.uid, []), decision, root))
        for one in decision.let_go
        if one.thing.uid not in owners
    ]


def _prefixes(one: LetGo, jobs: Sequence[JobSpec], decision: Decision, root: str) -> tuple[Letting, ...]:
    """Return the artifacts of a resource that nothing else has, and its half-written work."""
    told = [place for job in jobs for place in places(job, one.thing.source)]
    memos = tuple(dict.fromkeys(place.memo for place in told if place.memo is not None))
    found = {
        artifact.uri: Letting(uri=artifact.uri, digest=artifact.digest, memos=memos, grace_seconds=one.grace_seconds)
        for artifact in one.thing.artifacts
        if artifact.digest not in decision.held
    }
    kept = {artifact.uri for artifact in one.thing.artifacts}
    for uri in (uri for place in told for uri in (*outputs(place), place.work)):
        if uri not in kept:
            found.setdefault(uri, Letting(uri=uri, grace_seconds=one.grace_seconds))
    return tuple(letting for letting in found.values() if namespace_root(letting.uri) == root)


def outputs(job: JobSpec) -> tuple[str, ...]:
    """Return where a step's attempts write, up to the one that was told: the ConfigMaps of earlier ones are gone."""
    last = job.progress.attempt if job.progress is not None else 1
    base, _, end = job.output.rpartition(f"/{last}/")
    return tuple(f"{base}/{attempt}/{end}" for attempt in range(1, last + 1)) if base else (job.output,)


@dataclass(frozen=True)
class Order:
    """What a sweep is made from."""

    store: Store
    root: str
    things: Sequence[Thing]
    told: Sequence[Told]
    foreign: frozenset[str]
    """Prefixes below the root that other namespaces' resources name."""


def sweep_spec(
    order: Order, decision: Decision, leaving: Sequence[Going], before: SweepSpec | None, now: datetime
) -> SweepSpec:
    """Return the next sweep's orders. `before` is the last sweep: no two have one name."""
    active = at_work(order.things, order.told)
    lettings: Mapping[str, Letting] = {letting.uri: letting for one in leaving for letting in one.prefixes}
    there = {artifact.digest for one in order.things for artifact in one.artifacts}
    name = {"before": before.sweep if before is not None else "", "now": now.isoformat()}
    return SweepSpec(
        store=order.store,
        root=order.root,
        sweep=value_hash(name).removeprefix("sha256:")[:16],
        now=now,
        let_go=tuple(lettings.values())[:MAX_PREFIXES],
        kept=frozenset(decision.held | there),
        recorded=decision.recorded,
        used=frozenset(uri for one in active for uri in one.uris if uri.startswith(f"{order.root}/")) | order.foreign,
    )
