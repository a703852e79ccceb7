"""StarDeployment -> the Evaluation that gates a candidate, and what serves the revisions that passed.

For each revision a vLLM server `<name>-<digest>`, which the gateway alone may reach, and in front of all of them one
gateway `<name>`. A revision is a checkpoint: a changed server template rolls its pods, a changed checkpoint is another
revision.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.artifact import ArtifactRef
from star_contracts.base import lasting, value_hash
from star_contracts.job import ModelSource
from star_contracts.serving import SERVER_KEY_PATH, Backend
from star_operator.api.common import LLM, ModelRef
from star_operator.api.evaluation import EvaluationSpec
from star_operator.api.meta import API_VERSION
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.engine import PORT
from star_operator.builders.gateway import GatewayPlan, gateway_objects, gateway_selector, owner_of
from star_operator.builders.keys import deployment_keys_name
from star_operator.builders.llm import server_for
from star_operator.builders.llmserver import VLLMServer, vllm_objects
from star_operator.builders.names import child_name, dns_label, labels, owner_reference
from star_operator.builders.network import server_policy
from star_operator.builders.step import Inputs, ServerPlan
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import LABEL_COMPONENT, LEADER, WORKER, resource_labels
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Settings

REVISION_DIGITS = 12
SERVER_NAME_LIMIT = 44
"""StatefulSets of groups add up to 6 characters, and a controller revision 11 to their label of 63."""


@dataclass(frozen=True)
class Revision:
    """One checkpoint that is served."""

    name: str
    """Short name: the first digits of its digest."""
    artifact: ArtifactRef
    weight: int
    """Share of users, 0 to 100, relative to the other revisions."""
    plan: ServerPlan
    checkpoint: str = ""
    """The Checkpoint by which it was named."""


def revision_of(resource: StarDeployment, source: ModelSource, weight: int = 100) -> Revision:
    """Return the revision that serves `source`, the resolved spec.checkpoint.

    Raises InvalidSpec(NotPinned) for a model of a hub: it has no digest that a gate could vouch for.
    """
    if source.artifact is None:
        raise InvalidSpec(
            ConditionReason.NOT_PINNED,
            f"spec.checkpoint is the hub model {source.hub}, which has no digest to gate and to promote: "
            "name a Checkpoint, or an s3:// uri with its digest",
        )
    one_at_least = resource.spec.server.model_copy(update={"replicas": max(1, resource.spec.server.replicas)})
    plan = ServerPlan(server_for(one_at_least, _pinned(source.artifact)), source)
    return Revision(_digits(source.artifact), source.artifact, weight, plan)


def server_name(resource: StarDeployment, revision: Revision) -> str:
    """Return the name of a revision's server, its Service and the label of its pods."""
    return dns_label(f"{resource.metadata.name}-{revision.name[:8]}", SERVER_NAME_LIMIT)


def serving_objects(
    resource: StarDeployment, revisions: Sequence[Revision], inputs: Inputs, settings: Settings, *, hold: bool = False
) -> list[KubeObject]:
    """Return all that serves these revisions, in the order to apply it; nothing when there are none.

    With `hold` the gateway has requests wait for a server.

    Raises InvalidSpec naming the field: unknown pool, pool without images, reserved engine flag.
    """
    if not revisions:
        return []
    objects = _server_policy(resource, settings)
    for revision in revisions:
        objects += vllm_objects(_server(resource, revision), settings)
    backends = [_backend(resource, revision, settings) for revision in revisions]
    return [*objects, *gateway_objects(GatewayPlan(resource, inputs, backends, hold), settings)]


def gate_evaluation(
    resource: StarDeployment, artifact: ArtifactRef, inputs: Inputs, against: str | None = None
) -> KubeObject:
    """Return the Evaluation that measures a candidate, served as it would be in this deployment.

    Its name follows from what it measures, on what and how, as its spec is immutable: other gates are another
    Evaluation, and so is a dataset of the same name that was made anew. Its spec has names, so what they stand for is
    added: digests, and the UID of the run that `gates.against` names.
    Raises InvalidSpec(NoGates) when the resource has none.
    """
    spec, owner = resource.spec, owner_of(resource)
    if spec.gates is None:
        raise InvalidSpec(ConditionReason.NO_GATES, "spec.gates is not set, so there is nothing to evaluate")
    one_copy = spec.server.model_copy(update={"replicas": 1})  # to scale a deployment is not to measure it again
    asked = EvaluationSpec(
        dataset=spec.dataset,
        verbalization=spec.verbalization,
        llm=LLM(server=server_for(one_copy, _pinned(artifact))),
        against=spec.gates.against,
        settings=spec.gates.settings,
        compute=spec.gates.compute,
    )
    digests = {role: one.digest for role, one in inputs.artifacts.items()}
    digests |= {"against": against} if against is not None else {}
    named = lasting(asked, by_alias=True, exclude_none=True)  # by another version, too: it is not measured again
    work = value_hash({"spec": named, "inputs": digests}).removeprefix("sha256:")
    role = f"gate-{_digits(artifact)[:8]}-{work[:6]}"
    meta = {
        "namespace": owner.namespace,
        "name": child_name(owner, None, role),
        "labels": labels(owner),
        "ownerReferences": [owner_reference(owner)],
    }
    return {"apiVersion": API_VERSION, "kind": "Evaluation", "metadata": meta, "spec": asked.to_json_dict()}


def server_selector(resource: StarDeployment) -> dict[str, str]:
    """Return the labels of the pods that answer for a server's copies, of all revisions."""
    owner = owner_of(resource)
    return {**resource_labels(owner.kind, owner.name), LABEL_COMPONENT: LEADER}


def _server(resource: StarDeployment, revision: Revision) -> VLLMServer:
    owner = owner_of(resource)
    return VLLMServer(
        namespace=owner.namespace,
        name=server_name(resource, revision),
        plan=revision.plan,
        replicas=0 if resource.spec.suspend else resource.spec.server.replicas,
        owners=(owner_reference(owner),),
        labels=resource_labels(owner.kind, owner.name),
        keys=deployment_keys_name(owner),
        field="spec.server",
    )


def _backend(resource: StarDeployment, revision: Revision, settings: Settings) -> Backend:
    host = f"{server_name(resource, revision)}.{resource.metadata.namespace}.svc.{settings.cluster_domain}"
    return Backend(
        revision=revision.name,
        checkpoint=revision.artifact.digest,
        base_url=f"http://{host}:{PORT}/v1",
        model=revision.plan.served_model,
        weight=revision.weight,
        api_key_file=SERVER_KEY_PATH,
    )


def _server_policy(resource: StarDeployment, settings: Settings) -> list[KubeObject]:
    """Return the policy of the vLLM pods of all revisions: the gateway alone may ask them."""
    owner = owner_of(resource)
    servers = {
        "matchLabels": resource_labels(owner.kind, owner.name),
        "matchExpressions": [{"key": LABEL_COMPONENT, "operator": "In", "values": [LEADER, WORKER]}],
    }
    meta = {
        "namespace": owner.namespace,
        "name": child_name(owner, None, "vllm"),
        "labels": labels(owner),
        "ownerReferences": [owner_reference(owner)],
    }
    gateway = {"podSelector": {"matchLabels": gateway_selector(resource)}}
    return server_policy(meta, servers, [gateway], settings)


def _pinned(artifact: ArtifactRef) -> ModelRef:
    return ModelRef(uri=artifact.uri, digest=artifact.digest)


def _digits(artifact: ArtifactRef) -> str:
    return artifact.digest.removeprefix("sha256:")[:REVISION_DIGITS]
