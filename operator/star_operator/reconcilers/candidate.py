"""What a StarDeployment is to serve, and with what: what its references stand for, else what it has begun with.

Serving depends on no record of training: who deletes the RecDataset, the runs and the Checkpoint behind a deployment
that serves takes nothing from it.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource
from star_contracts.serving import GatewayConfig
from star_operator.api.common import Ref
from star_operator.api.recdataset import RecDataset
from star_operator.api.stardeployment import RevisionStatus, ServedStatus, StarDeployment
from star_operator.api.verbalization import Verbalization
from star_operator.builders.gateway import CONFIG_FILE, config_name
from star_operator.builders.step import Inputs
from star_operator.core.errors import Waiting
from star_operator.core.objects import is_owned
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP
from star_operator.reconcilers.inputs import model_input, used
from star_operator.reconcilers.pinning import recalled_inputs


@dataclass(frozen=True)
class Candidate:
    """What is to be served."""

    model: ModelSource
    inputs: Inputs
    """`dataset` and, where one is named, `signals`."""
    gone: str = ""
    """What its references do not stand for any more, as a sentence; it is then what the deployment began with."""


def serves(resource: StarDeployment) -> bool:
    """Say whether a deployment has a revision with traffic."""
    return any(one.weight for one in resource.status.revisions)


async def candidate(cluster: Cluster, resource: StarDeployment) -> Candidate:
    """Return what a deployment is to serve.

    Raises Waiting for what is missing and was never served with, InvalidSpec on a digest that differs.
    """
    spec, namespace = resource.spec, resource.metadata.namespace
    gone: list[str] = []
    inputs = Inputs()
    wanted: list[tuple[str, type[RecDataset] | type[Verbalization], str, Ref]] = [
        ("dataset", RecDataset, "spec.dataset", spec.dataset)
    ]
    if spec.verbalization is not None:
        wanted.append(("signals", Verbalization, "spec.verbalization", spec.verbalization))
    for role, kind, field, ref in wanted:
        try:
            inputs |= await used(cluster, kind, namespace, ref, field, role)
        except Waiting as waiting:
            known = await _known_input(cluster, resource, role, ref.name)
            if known is None:
                raise
            inputs |= known
            gone.append(waiting.message)
    try:
        model = (await model_input(cluster, namespace, spec.checkpoint, "spec.checkpoint")).models["model"]
    except Waiting as waiting:
        artifact = _known_model(resource)
        if artifact is None:
            raise
        model = ModelSource(artifact=artifact)
        gone.append(waiting.message)
    return Candidate(model, inputs, "; ".join(gone))


async def begun_with(cluster: Cluster, resource: StarDeployment) -> Inputs | None:
    """Return what a deployment serves with; None where it does not serve, or nobody knows."""
    if not serves(resource):
        return None
    return recalled_inputs(resource.status) or await _told(cluster, resource)


async def _known_input(cluster: Cluster, resource: StarDeployment, role: str, name: str) -> Inputs | None:
    """Return what a name stood for when the deployment began to serve with it."""
    rows = {row.role: row.name for row in resource.status.inputs}
    known = await begun_with(cluster, resource)
    if known is None or role not in known.artifacts or (rows and rows.get(role) != name):
        return None
    return known.only(role)


async def _told(cluster: Cluster, resource: StarDeployment) -> Inputs | None:
    """Return what the gateway was told, for a deployment whose status an operator of before wrote last."""
    body = await cluster.get(CONFIG_MAP, resource.metadata.namespace, config_name(resource))
    if body is None or not is_owned(body, resource.metadata.uid):
        return None
    try:
        config = GatewayConfig.model_validate_json(body["data"][CONFIG_FILE])
    except (KeyError, ValidationError):  # of another version
        return None
    signals = {"signals": config.signals} if config.signals is not None else {}
    return Inputs({"dataset": config.dataset, **signals})


def _known_model(resource: StarDeployment) -> ArtifactRef | None:
    """Return the artifact of a Checkpoint that is served, or was: by its digest where the spec gives it, else its name.

    So a roll-back needs the artifact alone.
    """
    asked = resource.spec.checkpoint
    rows: list[RevisionStatus | ServedStatus] = [*resource.status.revisions, *resource.status.served]
    for row in rows:
        same = row.digest == asked.digest if asked.digest is not None else row.checkpoint == asked.checkpoint
        if row.uri and same:
            return ArtifactRef(uri=row.uri, digest=row.digest)
    return None
