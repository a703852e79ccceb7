"""How many GPUs a resource of each kind holds while it runs: its pods' and its servers'."""

from star_contracts.base import Model
from star_operator.api.common import LLM, Compute, LLMServer
from star_operator.api.evaluation import EvaluationSpec
from star_operator.api.grpojob import GRPOJobSpec
from star_operator.api.serving import ServerTemplate
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


def _of(compute: Compute) -> int:
    return compute.nodes * compute.gpus_per_node


def _served(server: LLMServer | ServerTemplate) -> int:
    return server.replicas * _of(server.compute)


def _llm(llm: LLM) -> int:
    return _served(llm.server) if llm.server is not None else 0


def _key(llm: LLM) -> str:
    """Return what equal servers, which are shared, have in common."""
    return llm.server.model_dump_json() if llm.server is not None else ""
