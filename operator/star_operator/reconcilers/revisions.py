"""Revisions of a StarDeployment, as its status remembers them and as a pass has decided on them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource
from star_operator.api.stardeployment import RevisionStatus, ServedStatus, StarDeployment
from star_operator.builders.stardeployment import Revision, revision_of
from star_operator.core.views import ServerView
from star_operator.policy.gates import Gate, Verdict
from star_operator.policy.rollout import Shares


def recorded(resource: StarDeployment, row: RevisionStatus) -> Revision:
    """Return a revision that the last status tells of."""
    artifact = ArtifactRef(uri=row.uri, digest=row.digest)
    return replace(revision_of(resource, ModelSource(artifact=artifact)), checkpoint=row.checkpoint)


def named(rows: tuple[ServedStatus, ...], revisions: Iterable[Revision]) -> tuple[ServedStatus, ...]:
    """Return the history with what its rows serve: a roll-back needs no record of it."""
    known = {one.artifact.digest: one for one in revisions}
    return tuple(
        row.model_copy(update={"uri": one.artifact.uri, "checkpoint": one.checkpoint})
        if (one := known.get(row.digest)) is not None
        else row
        for row in rows
    )


def rows(
    resource: StarDeployment, running: Sequence[tuple[Revision, ServerView]], shares: Shares, now: str
) -> tuple[RevisionStatus, ...]:
    """Return what the status says of the revisions that run, the newest last: it takes over by these shares."""
    found = [_row(resource, one, view.ready_replicas, now) for one, view in running]
    if found:
        update = {"target": shares.target, "replaces": shares.replaces} if shares.replaces else {}
        found[-1] = found[-1].model_copy(update=update)
    return tuple(found)


def judged(
    resource: StarDeployment, found: tuple[RevisionStatus, ...], wanted: Revision, gate: Gate, now: str
) -> tuple[RevisionStatus, ...]:
    """Return the rows with the gates' verdict on what is wanted; what has not passed comes first."""
    verdict = {"gate": gate.verdict, "evaluation": gate.evaluation}
    if gate.passed:
        return (*found[:-1], found[-1].model_copy(update=verdict))
    listed = {one.name: one for one in found}
    row = listed.pop(wanted.name, None) or _row(resource, replace(wanted, weight=0), 0, now)
    return (row.model_copy(update=verdict), *listed.values())


def _row(resource: StarDeployment, revision: Revision, ready: int, now: str) -> RevisionStatus:
    before = (one for one in resource.status.revisions if one.name == revision.name)
    since = next((one.since for one in before if one.weight == revision.weight and one.since), now)
    return RevisionStatus(
        name=revision.name,
        uri=revision.artifact.uri,
        checkpoint=revision.checkpoint,
        digest=revision.artifact.digest,
        gate=Verdict.PASSED,
        ready_replicas=ready,
        weight=revision.weight,
        since=since,
    )
