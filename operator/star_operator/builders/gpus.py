"""How many GPUs a resource of each kind holds while it runs: its pods' and its servers'."""

from itertools import pairwise

from star_contracts.base import Model
from star_operator.api.chain import Plan
from star_operator.api.common import LLM, Compute, LLMServer
from star_operator.api.evaluation import EvaluationSpec
from star_operator.api.grpojob import GRPOJobSpec
from star_operator.api.serving import ServerTemplate, ServingTemplate
from star_operator.api.stardeployment import StarDeploymentSpec
from star_operator.api.teacherrun import TeacherRunSpec
from star_operator.api.verbalization import VerbalizationSpec


def gpus_of(spec: Model) -> int:
    """Return the GPUs that a run of this spec holds at once, at most; 0 where it has no pods of its own."""
    compute = getattr(spec, "compute", None)
    own = _of(compute) * getattr(spec, "shards", 1) if isinstance(compute, Compute) else 0
    match spec:
        case GRPOJobSpec():
            return max(own, _served(spec.server))  # sampling ends before training starts
        case TeacherRunSpec():
            servers = {_key(llm): _llm(llm) for llm in (spec.llm, *spec.agent_llms.values())}
            return own + sum(servers.values())
        case VerbalizationSpec():
            return own + _llm(spec.llm)
        case EvaluationSpec():
            return own + (_llm(spec.llm) if spec.llm is not None else 0)
    return own


def gpus_at_once(plan: Plan) -> int:
    """Return the GPUs that a pipeline's run holds at once, at most: stages run one after the other, variants beside
    each other.

    The deployment's stage is `gpus_to_deploy`. Not counted is a server that is kept for `llmIdleSeconds` after its
    stage.
    """
    gpus = {row.row: row.gpus for row in plan.rows}
    after: dict[str, set[str]] = {row: set() for row in gpus}
    first: set[str] = set()
    for chain in plan.chains.values():
        names = [row.row for row in chain]
        first.update(names[:1])
        for one, following in pairwise(names):
            after[one].add(following)

    def most(row: str) -> int:
        return max(gpus[row], sum(most(following) for following in after[row]))

    return sum(most(row) for row in first)


def gpus_to_deploy(deployment: StarDeploymentSpec | Model) -> int:
    """Return the GPUs that a StarDeployment, or a pipeline's template of one, takes besides while it moves on.

    Its gates measure first: an evaluator and one server of the candidate. Then the new revision's servers start. What
    the revision before holds until then is not the run's: it serves whether or not anything is trained.
    """
    gates, server = getattr(deployment, "gates", None), getattr(deployment, "server", ServingTemplate())
    gate = _of(gates.compute) + _of(server.compute) if gates is not None else 0
    return max(gate, _served(server))


def _of(compute: Compute) -> int:
    return compute.nodes * compute.gpus_per_node


def _served(server: LLMServer | ServerTemplate) -> int:
    return server.replicas * _of(server.compute)


def _llm(llm: LLM) -> int:
    return _served(llm.server) if llm.server is not None else 0


def _key(llm: LLM) -> str:
    """Return what equal servers, which are shared, have in common."""
    return llm.server.model_dump_json() if llm.server is not None else ""
