"""What of a namespace is kept, and why; what is let go: (resources, what pods are told, settings) -> decision.

Kept are roots, and what they refer to. Only what pipelines and gates made is ever let go. Who made a thing, and what it
is, follows from UIDs and digests; a name alone keeps things, and lets none go.

A reference that is spent keeps nothing: what something that has ended was refreshed from (`previous`), and what a gate
Evaluation that has ended measured. A model that another run's was trained from is kept, and not what that model itself
was made from: else a series that starts from its incumbent would keep all of its past.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from star_operator.core.settings import RetentionSettings
from star_operator.policy.holdings import CHECKPOINT, DEPLOYMENT, PIPELINE, Thing

MODELS = (CHECKPOINT, "SFTJob", "GRPOJob")
"""Kinds whose artifact is a model."""
REFRESHED = ("Verbalization", "TeacherRun")
"""Kinds of which a run takes over what has not changed (`previous`) from the last one of its series."""
MAX_REASONS = 3
"""Reasons that are told of one thing; the first ones are those nearest to a root."""


@dataclass(frozen=True)
class LetGo:
    """A resource that goes."""

    thing: Thing
    why: str
    grace_seconds: int
    """How long its artifacts stay in the store."""


@dataclass(frozen=True)
class Decision:
    """What stays and what goes."""

    kept: Mapping[str, tuple[str, ...]]
    """By UID: the reasons, as sentences."""
    let_go: tuple[LetGo, ...]
    """In the order to delete it: what belongs to others first."""
    held: frozenset[str]
    """Digests of artifacts that stay: what is kept has them, or refers to them."""
    recorded: frozenset[str]
    """Those that a resource which is kept has as its own."""
    made: frozenset[str] = frozenset()
    """UIDs of what pipelines and gates made."""


@dataclass
class _Case:
    """A namespace, as far as it is decided."""

    things: Sequence[Thing]
    settings: RetentionSettings
    reasons: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    deep: set[str] = field(default_factory=set)
    """UIDs of those whose references keep others."""
    followed: set[str] = field(default_factory=set)
    """UIDs of those whose references have been looked at."""

    def __post_init__(self) -> None:
        self.by_uid = {one.uid: one for one in self.things}
        self.by_name = {(one.kind, one.name): one for one in self.things}
        self.holders: dict[str, list[Thing]] = defaultdict(list)
        for one in self.things:
            for artifact in one.artifacts:
                self.holders[artifact.digest].append(one)
        self.children: dict[str, list[Thing]] = defaultdict(list)
        for one in self.things:
            if self.pipeline(one) is not None:
                self.children[one.owner or one.producer].append(one)

    def pipeline(self, one: Thing) -> Thing | None:
        """Return the pipeline that made a thing, or whose training job did; None where it was somebody else."""
        if one.kind == CHECKPOINT and one.producer:
            maker = self.by_uid.get(one.producer)
            is_its = (
                maker is not None
                and one.name in (maker.name, maker.record)
                and set(one.artifacts) <= set(maker.artifacts)
            )
            return self.pipeline(maker) if maker is not None and is_its else None
        owner = self.by_uid.get(one.owner)
        return owner if owner is not None and owner.kind == PIPELINE else None

    def gate(self, one: Thing) -> Thing | None:
        """Return the StarDeployment that a gate Evaluation belongs to."""
        owner = self.by_uid.get(one.owner)
        return owner if owner is not None and owner.kind == DEPLOYMENT and one.kind == "Evaluation" else None

    def has_ended(self, one: Thing) -> bool:
        """Say whether nothing more will come of a thing: stages that wait for one that failed wait for ever."""
        pipeline = self.pipeline(one)
        return one.ended or (one.idle and pipeline is not None and pipeline.ended)

    def keep(self, one: Thing, why: str, *, deep: bool = True) -> None:
        """Keep a thing for a reason; with `deep`, also what it refers to."""
        found = self.reasons[one.uid]
        if why not in found and len(found) < MAX_REASONS:
            found.append(why)
        if deep:
            self.deep.add(one.uid)

    def close(self) -> None:
        """Keep what the kept refer to, until nothing is added."""
        while True:
            waiting = [one for one in self.things if one.uid in self.reasons and self._key(one) not in self.followed]
            for one in waiting:
                self.followed.add(self._key(one))
                self._follow(one)
            if not waiting and not self._hold():
                return

    def _key(self, one: Thing) -> str:
        return f"{one.uid}/deep" if one.uid in self.deep else one.uid

    def _follow(self, one: Thing) -> None:
        """Keep what belongs to a kept thing, and what its spec names."""
        maker = self.by_uid.get(one.producer)
        if maker is not None:
            self.keep(maker, f"{one.title}, which is kept, is its record", deep=False)
        if one.uid not in self.deep:
            return
        for child in self.children.get(one.uid, ()):
            self.keep(child, f"{one.title}, which is kept, made it")
        for reference in one.refers:
            if not _is_spent(one, reference.path, is_gate=self.gate(one) is not None):
                for kind in reference.kinds:
                    target = self.by_name.get((kind, reference.name))
                    if target is not None and target.uid != one.uid:
                        text = f"{one.title}, which is kept, names it (spec.{reference.path})"
                        self.keep(target, text, deep=self.goes_on(one, target))

    def _hold(self) -> bool:
        """Keep a resource for each artifact that a kept one mentions, where none is kept that has it."""
        found = False
        for one in self.things:
            if one.uid not in self.deep or one.uid not in self.reasons:
                continue
            for digest in sorted(self.mentioned(one)):
                if holder := self.holder(digest, one):
                    self.keep(
                        holder,
                        f"{one.title}, which is kept, has its artifact's digest",
                        deep=self.goes_on(one, holder),
                    )
                    found = True
        return found

    def holder(self, digest: str, source: Thing | None = None) -> Thing | None:
        """Return the resource to keep for an artifact; None where one that has it is kept, or none has it."""
        has_it = [one for one in self.holders.get(digest, ()) if not one.deleting]
        if not has_it or any(one.uid in self.reasons for one in has_it):
            return None
        home = self.pipeline(source) if source is not None else None
        return max(has_it, key=lambda one: (home is not None and self.pipeline(one) == home, one.created, one.uid))

    def mentioned(self, one: Thing) -> frozenset[str]:
        spent = self.gate(one) is not None and one.ended
        return frozenset(artifact.digest for artifact in one.artifacts) if spent else one.mentions

    def goes_on(self, source: Thing, target: Thing) -> bool:
        """Say whether what the target refers to is kept as well: not where it is the model of another run."""
        home, other = self.pipeline(source) or source, self.pipeline(target)
        crosses = home.kind == PIPELINE and other is not None and other.uid != home.uid
        return not (crosses and target.kind in MODELS)


def _is_spent(one: Thing, path: str, *, is_gate: bool) -> bool:
    return one.ended and (is_gate or path.startswith("previous"))


def decide(things: Sequence[Thing], in_use: Mapping[str, str], settings: RetentionSettings) -> Decision:
    """Return what stays and what goes. `in_use` is by digest why a pod needs the artifact, e.g. `a pod reads it`."""
    case = _Case(things, settings)
    graces = {one.uid: settings.grace_period_seconds for one in things}
    whys: dict[str, str] = {}
    for one in things:
        _root(case, one)
    for runs in _series(things):
        _last_runs(case, runs, graces, whys)
    _gates(case, whys)
    case.close()
    for digest, why in sorted(in_use.items()):
        if holder := case.holder(digest):
            case.keep(holder, why, deep=False)
    case.close()
    _owners(case)
    held = {digest for one in things if one.uid in case.reasons for digest in _held(case, one)} | set(in_use)
    recorded = {artifact.digest for one in things if one.uid in case.reasons for artifact in one.artifacts}
    gone = [_let_go(case, one, graces, whys) for one in things if one.uid not in case.reasons]
    ordered = sorted(gone, key=lambda one: (one.thing.kind == PIPELINE, one.thing.kind != CHECKPOINT, one.thing.name))
    kept = {uid: tuple(reasons) for uid, reasons in case.reasons.items()}
    made = frozenset(one.uid for one in things if case.pipeline(one) is not None or case.gate(one) is not None)
    return Decision(kept, tuple(ordered), frozenset(held), frozenset(recorded), made)


def _root(case: _Case, one: Thing) -> None:
    """Keep what is kept for its own sake."""
    if one.pin is not None:
        case.keep(one, f"it is pinned: {one.pin or 'no reason is given'}")
    if one.deleting:
        case.keep(one, "it is being deleted already", deep=False)
    elif one.kind == DEPLOYMENT:
        case.keep(one, "it serves, or is to serve")
    elif not case.has_ended(one):
        case.keep(one, "it has not ended")
    elif one.kind != PIPELINE and case.pipeline(one) is None and case.gate(one) is None:
        case.keep(one, "no pipeline made it")


def _series(things: Iterable[Thing]) -> list[list[Thing]]:
    """Return the pipelines of each series, the newest first."""
    found: dict[str, list[Thing]] = defaultdict(list)
    for one in things:
        if one.kind == PIPELINE:
            found[one.series].append(one)
    return [sorted(runs, key=lambda one: (one.created, one.name), reverse=True) for _, runs in sorted(found.items())]


def _last_runs(case: _Case, runs: Sequence[Thing], graces: dict[str, int], whys: dict[str, str]) -> None:
    """Keep the last runs of a series, and what the next one is refreshed from."""
    asked, default, series = runs[0].retention, case.settings, runs[0].series
    keep, failed, grace = default.keep_runs, default.keep_failed_runs, default.grace_period_seconds
    if asked is not None:
        keep = keep if asked.keep_runs is None else asked.keep_runs
        failed = failed if asked.keep_failed_runs is None else asked.keep_failed_runs
        grace = grace if asked.grace_period_seconds is None else asked.grace_period_seconds
    for succeeded, limit, how in ((True, keep, "succeeded"), (False, failed, "failed")):
        ended = [one for one in runs if one.ended and one.succeeded is succeeded]
        ended.sort(key=lambda one: (one.ended_at, one.created, one.name), reverse=True)
        for one in ended[:limit]:
            case.keep(one, f"it is one of the last {limit} runs of series {series} that {how}")
        for one in ended[limit:]:
            whys[one.uid] = f"{limit} later runs of series {series} {how}"
    made = [child for one in runs for child in case.children.get(one.uid, ())]
    for one in runs:
        graces[one.uid] = grace
    for child in made:
        graces[child.uid] = grace
        for record in case.children.get(child.uid, ()):
            graces[record.uid] = grace
    for kind in REFRESHED:
        done = [one for one in made if one.kind == kind and one.succeeded and not one.deleting]
        if done:
            newest = max(done, key=lambda one: (one.ended_at, one.name))
            case.keep(newest, f"the next run of series {series} is refreshed from it")


def _gates(case: _Case, whys: dict[str, str]) -> None:
    """Keep the Evaluations of a deployment's revisions, and its last ones."""
    made: dict[str, list[Thing]] = defaultdict(list)
    for one in case.things:
        if (gate := case.gate(one)) is not None and one.ended:
            made[gate.uid].append(one)
    limit = case.settings.keep_gate_evaluations
    for uid, evaluations in made.items():
        deployment = case.by_uid[uid]
        current = [one for one in evaluations if one.name in deployment.measured]
        others = sorted((one for one in evaluations if one not in current), key=lambda one: one.ended_at, reverse=True)
        for one in current:
            case.keep(one, f"it measured a revision of {deployment.title}")
        for one in others[:limit]:
            case.keep(one, f"it is one of the last {limit} gate Evaluations of {deployment.title}")
        for one in others[limit:]:
            whys[one.uid] = f"{deployment.title} has {limit} later gate Evaluations, and none of its revisions needs it"


def _owners(case: _Case) -> None:
    """Keep the pipeline whose children are not all let go: they would go with it."""
    for one in case.things:
        owner = case.by_uid.get(one.owner)
        if one.uid in case.reasons and owner is not None and owner.kind == PIPELINE and owner.uid not in case.reasons:
            case.keep(owner, f"{one.title}, which is kept, belongs to it", deep=False)


def _held(case: _Case, one: Thing) -> frozenset[str]:
    """Return the digests that a kept thing keeps: those it mentions, or its own alone."""
    return case.mentioned(one) if one.uid in case.deep else frozenset(artifact.digest for artifact in one.artifacts)


def _let_go(case: _Case, one: Thing, graces: Mapping[str, int], whys: Mapping[str, str]) -> LetGo:
    maker = case.pipeline(one)
    run = f"the run {maker.name}" if maker is not None else "its run"
    why = whys.get(one.uid, f"{run} is let go, and nothing that is kept refers to it")
    return LetGo(one, why, graces[one.uid])


def finished_jobs(ended: Mapping[str, float], seconds: int) -> tuple[str, ...]:
    """Return the names of the Jobs that go. `ended` is by name how many seconds ago each ended."""
    return tuple(sorted(name for name, ago in ended.items() if ago >= seconds))
