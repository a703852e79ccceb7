"""What the gates of a StarDeployment say of a candidate: its Evaluation, made and read, and its verification.

An Evaluation counts when this very deployment made it, and of this very artifact: a name proves nothing.
"""

import re
from dataclasses import replace

from star_contracts.errors import Reason
from star_operator.api.evaluation import Evaluation
from star_operator.api.meta import Phase
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.proofs import bound_verdict
from star_operator.builders.stardeployment import Revision, gate_evaluation
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec, Refused
from star_operator.core.objects import KubeObject, is_owned
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.conditions import READY, find
from star_operator.policy.gates import Gate, Verdict, judge
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.verification import verification

GONE = "gone"
"""In place of the UID of a run that there is not, or not any more."""
MEASURED = ("dataset", "verbalization", "llm", "against", "settings")
"""Fields of an Evaluation's spec that say what it measures, and how."""
_FIELDS = (
    (re.compile(r"\bspec\.llm\.server\b"), "spec.server"),
    (re.compile(r"\bspec\.(settings|against|compute)\b"), r"spec.gates.\1"),
    (re.compile(r"(?<![\w.])(settings|against)\.(?=[a-z])"), r"gates.\1."),
)
"""Where a deployment's spec has what stands at a path of the generated Evaluation's."""


def in_its_fields(text: str) -> str:
    """Return what is said of a gate's Evaluation with the fields by which the deployment's spec calls them."""
    for pattern, field in _FIELDS:
        text = pattern.sub(field, text)
    return text


async def gate(context: Context, resource: StarDeployment, wanted: Revision, inputs: Inputs, *, gone: bool) -> Gate:
    """Return what the gates say of a candidate; `gone` says that some of its inputs are there in the store alone.

    Raises what `verification` does, and Refused or InvalidSpec, in the deployment's own words, for an Evaluation that
    the API server does not take.
    """
    found, evaluation = await _measure(context, resource, wanted, inputs, gone=gone)
    if not found.passed:
        return found
    verdict = None
    if evaluation is not None:
        verdict = bound_verdict(evaluation, wanted.artifact, inputs.artifacts)
        if verdict is None:
            text = f"Evaluation {found.evaluation} succeeded, and its status names no report: delete it"
            return replace(found, verdict=Verdict.FAILED, message=text, reason=Reason.VERDICT_NOT_BOUND)
    proven = await verification(context, resource, wanted.artifact, verdict)
    if proven.verdict is Verdict.PASSED:
        return found
    if proven.verdict is Verdict.RUNNING and _passed(resource, wanted) is not None:  # which is not taken back meanwhile
        troubled = proven.reason != ConditionReason.VERIFYING
        return replace(found, message=f"{found.message}; {proven.message}") if troubled else found
    return replace(found, verdict=proven.verdict, message=proven.message, reason=proven.reason)


async def _measure(
    context: Context, resource: StarDeployment, wanted: Revision, inputs: Inputs, *, gone: bool
) -> tuple[Gate, Evaluation | None]:
    """Return what the gates say by the Evaluation's status, and the Evaluation where it has ended well."""
    if resource.spec.gates is None:
        return Gate(Verdict.PASSED, "no gates"), None
    against = await _against(context.cluster, resource)
    wish = gate_evaluation(resource, wanted.artifact, inputs, against)
    name, namespace, passed = wish["metadata"]["name"], resource.metadata.namespace, _passed(resource, wanted)
    if against == GONE:  # what it was compared with is no reason to measure again what has passed
        name = passed or name
    body = await context.cluster.get(STAR_TYPES["Evaluation"], namespace, name)
    if body is None and gone and passed:
        return Gate(Verdict.PASSED, f"Evaluation {passed}, which it passed, is gone", passed), None
    evaluation = Evaluation.parse(body if body is not None else await _made(context.cluster, wish))
    if not _is_of(evaluation, body, resource, wanted, wish):
        context.queue.add_after(Key(resource.kind, namespace, resource.metadata.name), UNWATCHED_SECONDS)
        text = f"Evaluation {name} is there and is not of this StarDeployment, so what it says does not count"
        taken = Gate(
            Verdict.RUNNING, f"{text}; delete it, unless it is going already", reason=ConditionReason.NAME_TAKEN
        )
        return taken, None
    status = evaluation.status
    why = find(status.conditions, READY)
    said = in_its_fields(why.message) if why is not None else ""
    if status.phase is Phase.FAILED:
        return Gate(Verdict.FAILED, f"Evaluation {name} failed: {said or 'no reason recorded'}", name), None
    if status.phase is not Phase.SUCCEEDED:
        so_far = status.progress_text or said or "just created"
        return Gate(Verdict.RUNNING, f"Evaluation {name}: {so_far}", name), None
    verdict = judge(resource.spec.gates.rules, status.metrics)
    outcome = Verdict.PASSED if verdict.passed else Verdict.FAILED
    return Gate(outcome, verdict.message, name, status.headline), evaluation


async def _made(cluster: Cluster, wish: KubeObject) -> KubeObject:
    """Make the Evaluation. Raises Retryable where somebody was quicker: whose it is must be looked at."""
    try:
        return await cluster.create(wish)
    except InvalidSpec as error:
        raise InvalidSpec(error.reason, in_its_fields(error.message)) from error
    except Refused as error:
        raise Refused(error.reason, in_its_fields(error.message)) from error


def _is_of(
    evaluation: Evaluation, body: KubeObject | None, resource: StarDeployment, wanted: Revision, wish: KubeObject
) -> bool:
    """Say whether an Evaluation is this deployment's, of this artifact, and measures it as the gates say."""
    if body is None:
        return True
    server = evaluation.spec.llm.server if evaluation.spec.llm is not None else None
    if not is_owned(body, resource.metadata.uid) or server is None or server.model.digest != wanted.artifact.digest:
        return False
    asked = Evaluation.parse(wish).spec
    by_another_name = evaluation.metadata.name != wish["metadata"]["name"]
    return by_another_name or all(getattr(evaluation.spec, name) == getattr(asked, name) for name in MEASURED)


def _passed(resource: StarDeployment, wanted: Revision) -> str | None:
    """Return the name of the Evaluation that a revision has passed, empty without gates; None where it has not."""
    found = (one for one in resource.status.revisions if one.name == wanted.name and one.gate == Verdict.PASSED)
    return next((one.evaluation for one in found), None)


async def _against(cluster: Cluster, resource: StarDeployment) -> str | None:
    """Return the UID of the run that the gates compare with, if any: a name may come to stand for another one."""
    against = resource.spec.gates.against if resource.spec.gates is not None else None
    if against is None or against.name is None:
        return None
    kind = "Evaluation" if against.evaluation is not None else "TeacherRun"
    body = await cluster.get(STAR_TYPES[kind], resource.metadata.namespace, against.name)
    return str(body["metadata"]["uid"]) if body is not None else GONE
