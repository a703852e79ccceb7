"""Golden cases: `tests/golden/<case>/cr.yaml` -> `children.yaml`, all children of a resource, in the order applied.

The resource of a `paper-*` case is a preset of manifests/paper instead: what the paper's experiments become on H20.

A resource's references are stood in for by fixed artifacts, so that the goldens need no cluster. Rewrite them with
`pytest tests/unit/star_operator/builders --update-goldens` and read the diff.
"""

import importlib
from pathlib import Path
from typing import Any

import yaml

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource
from star_contracts.proofs import MadeBy, Measured, PublicKey
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.common import ModelRef
from star_operator.api.evaluation import EvaluationSpec
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Resource
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.errand import errand_objects
from star_operator.builders.job import step_job
from star_operator.builders.llmserver import server_objects
from star_operator.builders.names import user_reference
from star_operator.builders.proofs import (
    Claim,
    ProofPlan,
    attest_errand,
    checkpoint_owner,
    deployment_owner,
    verify_errand,
)
from star_operator.builders.stardeployment import gate_evaluation, revision_of, serving_objects
from star_operator.builders.step import Inputs, Owner
from star_operator.core.objects import KubeObject
from star_operator.core.settings import ImageSet, Pool, ProofSettings, Settings, StoreSettings, Toleration
from star_operator.policy.proofs import facts_of
from tests.support.paper import preset

ROOT = Path(__file__).parents[1] / "golden"
PRESETS = {
    "paper-evaluation": ("Evaluation", "goodreads-star"),
    "paper-grpo": ("GRPOJob", "goodreads-star"),
    "paper-mars-planner": ("TeacherRun", "goodreads-mars-planner"),
    "paper-serve": ("StarDeployment", "goodreads"),
    "paper-sft": ("SFTJob", "goodreads-sft"),
    "paper-sft-32b": ("SFTJob", "goodreads-32b-sft"),
    "paper-teacher": ("TeacherRun", "goodreads"),
}
"""Presets of the paper that become pods on GPUs, by case."""
CASES = tuple(sorted([*PRESETS, *(path.parent.name for path in ROOT.glob("*/cr.yaml"))]))


def artifact(role: str, digit: str) -> ArtifactRef:
    """A stand-in for an artifact."""
    return ArtifactRef(uri=f"s3://star/default/{role}/x/1/x", digest="sha256:" + digit * 64)


ARTIFACTS = {
    "dataset": artifact("dataset", "1"),
    "signals": artifact("signals", "2"),
    "trajectories": artifact("trajectories", "3"),
}
CHECKPOINT = artifact("checkpoint", "4")
BEFORE = artifact("checkpoint", "5")
AGAINST = artifact("against", "6")


def images(variant: str) -> ImageSet:
    """Image references of a variant."""
    return ImageSet(**{role: f"star/{role}:{variant}-1" for role in ImageSet.model_fields})


def settings() -> Settings:
    """A cluster with the pools the chart ships, an RDMA fabric, and both image variants."""
    h20 = Pool(
        node_selector={"star.recsys.dev/pool": "h20"},
        tolerations=(Toleration(key="nvidia.com/gpu", effect="NoSchedule"),),
        rdma_resource="rdma/hca",
        image_variant="cuda",
        topology_key="topology.kubernetes.io/zone",
        shm_size="64Gi",
        runtime_class_name="nvidia",
        env={"NCCL_IB_HCA": "mlx5"},
    )
    return Settings(
        store=StoreSettings(uri="s3://star"),
        pools={"cpu": Pool(), "h20": h20},
        images={"cpu": images("cpu"), "cuda": images("cuda")},
        image_pull_secrets=("registry",),
    )


def resource(case: str) -> Resource[Any, Any]:
    """The resource of a case."""
    if case in PRESETS:
        return parse(preset(*PRESETS[case]).body)
    return parse(yaml.safe_load((ROOT / case / "cr.yaml").read_text()))


def parse(body: KubeObject) -> Resource[Any, Any]:
    """Read a manifest, as if the API server had stored it."""
    kind = BY_KIND[body["kind"]]
    meta = {"namespace": "default", "uid": "00000000-0000-0000-0000-000000000001", **body["metadata"]}
    return kind.parse({**body, "metadata": meta})


def children(cr: Resource[Any, Any]) -> list[KubeObject]:
    """Everything the operator makes of a resource: of each step its servers and its Job; of a deployment all."""
    if isinstance(cr, StarDeployment):
        return deployment_children(cr)
    if isinstance(cr, Checkpoint):
        return checkpoint_children(cr)
    owner = Owner(cr.kind, cr.metadata.namespace, cr.metadata.name, cr.metadata.uid)
    builder = importlib.import_module(f"star_operator.builders.{cr.kind.lower()}")
    done = {name: artifact("step", digit) for name, digit in zip(builder.STEPS, "678", strict=False)}
    made: list[KubeObject] = []
    for name in builder.STEPS:
        step = builder.plan(name, cr, inputs(cr), done, settings())
        for server in step.servers:
            made += server_objects(owner.namespace, server, [user_reference(owner)], settings())
        made += step_job(owner, step, 1, settings(), cr.spec)
    return made


def deployment_children(cr: StarDeployment) -> list[KubeObject]:
    """The gate's Evaluation, and what serves the new checkpoint beside an old one."""
    gate = [gate_evaluation(cr, CHECKPOINT, inputs(cr))] if cr.spec.gates else []
    revisions = [
        revision_of(cr, ModelSource(artifact=BEFORE), weight=90),
        revision_of(cr, model(cr.spec.checkpoint), weight=10),
    ]
    return [*gate, *verifying_objects(cr), *serving_objects(cr, revisions, inputs(cr), settings())]


def verifying_objects(cr: StarDeployment) -> list[KubeObject]:
    """What verifies the new checkpoint, where signatures are required."""
    if cr.spec.require_signatures is None:
        return []
    keys = [PublicKey(name=key.name, pem=key.public_key or "") for key in cr.spec.require_signatures.keys]
    claim = Claim(CHECKPOINT, keys, cr.spec.require_signatures.threshold)
    errand = verify_errand(claim, AGAINST.digest, settings())
    return errand_objects(deployment_owner(cr), errand, settings())


def checkpoint_children(cr: Checkpoint) -> list[KubeObject]:
    """The Job that writes its proof, signed."""
    signing = settings().model_copy(update={"proofs": ProofSettings(signing_secret_name="star-signing")})
    reports = [Measured(evaluation="test", report=artifact("report", "9"))]
    facts = facts_of(cr, reports, signing.proofs.signing_secret_name)
    plan = ProofPlan(cr, facts, reports, [MadeBy(kind="SFTJob", name=cr.metadata.name, artifact=CHECKPOINT)])
    return errand_objects(checkpoint_owner(cr), attest_errand(plan, signing), signing)


def inputs(cr: Resource[Any, Any]) -> Inputs:
    """What the references of a resource stand for."""
    spec, artifacts = cr.spec, dict(ARTIFACTS)
    # An SFTJob's comes from its TeacherRun.
    if cr.kind != "SFTJob" and getattr(spec, "verbalization", None) is None:
        del artifacts["signals"]
    if isinstance(spec, EvaluationSpec):
        artifacts |= dict.fromkeys(spec.compared(), AGAINST)
    models = {}
    if getattr(spec, "model", None) is not None:
        models["model"] = model(spec.model)
    llm = getattr(spec, "llm", None)
    agents = {f"llm.{agent}": own for agent, own in getattr(spec, "agent_llms", {}).items()}
    for role, block in {"llm": llm, **agents}.items():
        if block is not None and block.server is not None:
            models[role] = model(block.server.model)
    return Inputs(artifacts, models)


def model(ref: ModelRef) -> ModelSource:
    """The weights a reference stands for."""
    if ref.uri is not None and ref.uri.startswith("hf://"):
        return ModelSource(hub=ref.uri.removeprefix("hf://"))
    return ModelSource(artifact=CHECKPOINT)
