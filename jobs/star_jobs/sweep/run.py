"""`star-job sweep`: one look at the marks of a namespace, each brought one step further.

In this order: what is let go is marked; then each mark there is of an earlier sweep is looked at. What is kept is not
marked any more; what was spared is marked anew; what has been marked for its grace period is condemned and deleted. A
sweep condemns no mark of its own: it was told what is kept after all earlier marks were written, and before its own.

A crash at any step leaves marks that the next sweep goes on from. `manifest.json` goes first, so that what is half
deleted is no artifact, and the mark last.
"""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from pydantic import ValidationError

from star_contracts.artifact import MANIFEST_NAME, ArtifactRef, Manifest
from star_contracts.base import sha256_digest, value_hash
from star_contracts.errors import Reason
from star_contracts.proofs import proofs_uri
from star_contracts.result import JobResult
from star_contracts.retention import (
    RETENTION,
    SWEEP_SPEC_PATH,
    Letting,
    Mark,
    MarkState,
    SweepSpec,
    mark_uri,
    namespace_root,
)
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage import ObjectStore
from star_jobs.storage.marks import find_mark, write_mark

Logger = structlog.stdlib.BoundLogger


def sweep(stopping: threading.Event) -> JobResult:
    """Do what the sweep's spec says. Raises JobFailure."""
    path = Path(os.environ.get("STAR_SWEEP_SPEC", SWEEP_SPEC_PATH))
    try:
        spec = SweepSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the sweep's spec {path} cannot be used ({error}); set STAR_SWEEP_SPEC"
        ) from error
    return run_sweep(spec, ObjectStore(spec.store), stopping)


def run_sweep(spec: SweepSpec, store: ObjectStore, stopping: threading.Event) -> JobResult:
    """Mark what is let go, and bring all earlier marks one step further.

    The result's metrics count prefixes: `marked` now, `swept`, `waiting` for their time, `held` as they are in use;
    `nextSeconds` is when the first of those that wait is due, counted from the spec's `now`.
    """
    require_conditions(store, spec)
    task = _Sweep(spec, store, structlog.get_logger().bind(sweep=spec.sweep))
    task.marking = frozenset(letting.uri for letting in spec.let_go)
    for letting in spec.let_go:
        _go_on(stopping)
        task.mark(letting)
    for place in [f"{spec.root}/{RETENTION}/{item.path}" for item in store.list(f"{spec.root}/{RETENTION}")]:
        _go_on(stopping)
        task.look_at(place)
    figures = {name: float(task.counts[name]) for name in ("marked", "swept", "waiting", "held")}
    if task.due is not None:
        figures["nextSeconds"] = max(0.0, (task.due - spec.now).total_seconds())
    return JobResult(metrics=figures)


def require_conditions(store: ObjectStore, spec: SweepSpec) -> None:
    """Raise TerminalFailure(StoreRefused) for a store that ignores the conditions of writes: no mark would be safe."""
    probe = f"{spec.root}/{RETENTION}-probe"
    store.delete(probe)  # of a sweep that died here
    try:
        first = store.put_version(probe, b"1", None)
        second = store.put_version(probe, b"2", None)
        third = store.put_version(probe, b"3", '"00000000000000000000000000000000"')
    finally:
        store.delete(probe)
    if not first or second or third:
        text = "the store ignores conditions of writes (If-None-Match, If-Match), so that no mark is safe"
        remedy = "use a version of the store that has them, or set retention.enabled to false in the chart's values"
        raise TerminalFailure(Reason.STORE_REFUSED, f"{text}; nothing was deleted: {remedy}")


def _go_on(stopping: threading.Event) -> None:
    if stopping.is_set():
        raise RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; the next sweep goes on from the marks")


@dataclass
class _Sweep:
    spec: SweepSpec
    store: ObjectStore
    log: Logger
    counts: Counter[str] = field(default_factory=Counter)
    marking: frozenset[str] = frozenset()
    """Prefixes that this sweep marks: resources have them still."""
    due: datetime | None = None
    """When the first of the marks that wait may be swept."""

    def mark(self, letting: Letting) -> None:
        """Mark a prefix, unless it is marked already for what it is."""
        place = self._place(letting)
        while True:
            found = find_mark(self.store, place)
            if found is not None and (found[0].state is MarkState.CONDEMNED or _is_mark_of(found[0], letting)):
                return
            if write_mark(self.store, place, self._marked(letting), found[1] if found else None):
                self.counts["marked"] += 1
                self.log.info("marked", uri=letting.uri)
                return

    def look_at(self, place: str) -> None:
        """Bring one mark a step further. One that changes meanwhile is left to the next sweep."""
        found = find_mark(self.store, place)
        if found is None:
            return
        mark, version = found
        letting = mark.letting
        if self._place(letting) != place:
            raise TerminalFailure(Reason.ARTIFACT_CORRUPTED, f"{place} is the mark of {letting.uri}; delete it")
        if mark.state is MarkState.CONDEMNED:
            self._delete(place, letting)
        elif mark.by == self.spec.sweep or letting.uri in self.marking:
            self._wait(mark)
        elif self._is_kept(letting):
            self.counts["held"] += 1
            if self._is_recorded(letting):
                self.store.delete(place)
            else:
                self._mark_anew(place, letting, version)
        elif mark.state is MarkState.SPARED:
            self._mark_anew(place, letting, version)
        elif _due(mark) > self.spec.now:
            self._wait(mark)
        elif self._holds(letting):
            condemned = mark.model_copy(update={"state": MarkState.CONDEMNED, "by": self.spec.sweep})
            if write_mark(self.store, place, condemned, version):
                self._delete(place, letting)

    def _delete(self, place: str, letting: Letting) -> None:
        """Delete what is condemned; nobody has begun to use it, and nobody will."""
        self.store.delete(f"{letting.uri}/{MANIFEST_NAME}")
        self.store.delete_tree(letting.uri)
        self.store.delete_tree(proofs_uri(letting.uri))
        for memo in letting.memos:
            if memo.startswith(f"{self.spec.root}/") and self._remembers(memo, letting):
                self.store.delete(memo)
        self.store.delete(place)
        self.counts["swept"] += 1
        self.log.info("deleted", uri=letting.uri)

    def _remembers(self, memo: str, letting: Letting) -> bool:
        data = self.store.find_bytes(memo)
        try:
            return data is not None and ArtifactRef.model_validate_json(data).digest == letting.digest
        except ValidationError:
            return False

    def _is_kept(self, letting: Letting) -> bool:
        """Say whether somebody has the artifact, may find it as equal work, or names its prefix."""
        if any(letting.uri == uri or letting.uri.startswith(f"{uri}-") for uri in self.spec.used):
            return True
        manifest = self._manifest(letting)
        if letting.digest in self.spec.kept or (manifest is not None and manifest.digest() in self.spec.kept):
            return True
        if manifest is None:
            return False
        work, source = manifest.producer.work_hash, manifest.inputs.get("source")
        on_source = {value_hash({"work": one, "source": source}) for one in self.spec.kept} if source else set()
        return work in self.spec.kept or work in on_source

    def _is_recorded(self, letting: Letting) -> bool:
        """Say whether a resource that is kept has the artifact as its own: it will have it marked when it goes."""
        return letting.digest is not None and letting.digest in self.spec.recorded

    def _manifest(self, letting: Letting) -> Manifest | None:
        data = self.store.find_bytes(f"{letting.uri}/{MANIFEST_NAME}")
        try:
            return None if data is None else Manifest.model_validate_json(data)
        except ValidationError:
            return None

    def _holds(self, letting: Letting) -> bool:
        """Say whether the prefix still has what was let go: an artifact is known by its digest, never by its place."""
        data = self.store.find_bytes(f"{letting.uri}/{MANIFEST_NAME}")
        if letting.digest is None or data is None or sha256_digest(data) == letting.digest:
            return True
        self.log.warning("left alone: another artifact lies there", uri=letting.uri, let_go=letting.digest)
        self.counts["held"] += 1
        return False

    def _mark_anew(self, place: str, letting: Letting, version: str) -> None:
        anew = self._marked(letting)
        if write_mark(self.store, place, anew, version):
            self._wait(anew)

    def _marked(self, letting: Letting) -> Mark:
        return Mark(state=MarkState.MARKED, letting=letting, by=self.spec.sweep, at=self.spec.now)

    def _wait(self, mark: Mark) -> None:
        self.counts["waiting"] += 1
        self.due = min(filter(None, (self.due, _due(mark))))

    def _place(self, letting: Letting) -> str:
        place = mark_uri(letting.uri)
        if place is None or namespace_root(letting.uri) != self.spec.root:
            text = f"{letting.uri} is not a prefix of this namespace ({self.spec.root}), and is left alone"
            raise TerminalFailure(Reason.INVALID_JOB_SPEC, f"{text}; report this with the sweep's ConfigMap")
        return place


def _due(mark: Mark) -> datetime:
    return mark.at + timedelta(seconds=mark.letting.grace_seconds)


def _is_mark_of(mark: Mark, letting: Letting) -> bool:
    """Say whether a prefix is marked with all that is known of it."""
    return mark.state is MarkState.MARKED and mark.letting == letting
