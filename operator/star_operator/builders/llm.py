"""An `llm` block -> where to call, which servers to run, which keys to mount."""

from dataclasses import dataclass, field

from star_contracts.job import LLMEndpoint, ModelSource
from star_contracts.names import SPEC_DIR
from star_operator.api.common import LLM, Endpoint, LLMServer, ModelRef, SecretKeyRef
from star_operator.api.serving import ServerTemplate
from star_operator.builders.hosts import require_endpoint, require_own_secret
from star_operator.builders.step import ServerPlan
from star_operator.core.settings import Settings


@dataclass(frozen=True)
class ResolvedLLM:
    """What a step needs to call an LLM."""

    endpoint: LLMEndpoint
    identity: str
    """Which model answers: an artifact's digest, a hub id, or URL and name of an endpoint; part of the work hash."""
    servers: tuple[ServerPlan, ...] = ()
    api_keys: dict[str, SecretKeyRef] = field(default_factory=dict)


def resolve_llm(
    llm: LLM, source: ModelSource | None, namespace: str, settings: Settings, role: str = "llm"
) -> ResolvedLLM:
    """Return how to call this LLM; `source` is the model of `llm.server`, resolved, `role` names its API key's file.

    Raises InvalidSpec(ForbiddenEndpoint) for a host that pods may not call, or a key in a Secret of the platform's.
    """
    if llm.endpoint is not None:
        _refuse(llm.endpoint, role, settings)
        key = llm.endpoint.secret_ref
        endpoint = LLMEndpoint(
            base_url=llm.endpoint.url.rstrip("/"),
            model=llm.endpoint.model,
            api_key_file=f"{SPEC_DIR}/keys/{role}" if key else None,
            concurrency=llm.concurrency,
            timeout_seconds=llm.timeout_seconds,
            rate_limits=llm.rate_limits,
            prices=llm.prices,
        )
        identity = f"{endpoint.base_url}#{endpoint.model}"
        return ResolvedLLM(endpoint, identity, api_keys={role: key} if key else {})
    assert llm.server is not None  # exactly one of both: refused at admission otherwise
    assert source is not None
    plan = ServerPlan(llm.server, source)
    endpoint = plan.endpoint(
        namespace, settings.cluster_domain, concurrency=llm.concurrency, timeout=llm.timeout_seconds
    )
    endpoint = endpoint.model_copy(update={"rate_limits": llm.rate_limits, "prices": llm.prices})
    return ResolvedLLM(endpoint, model_identity(source), servers=(plan,))


def _refuse(endpoint: Endpoint, role: str, settings: Settings) -> None:
    """Refuse what would send a Secret, or a request in the pod's name, where the platform does not want it."""
    field = f"{role.replace('llm.', 'agentLlms.', 1)}.endpoint"
    require_endpoint(endpoint.url, f"{field}.url", settings)
    if endpoint.secret_ref is not None:
        require_own_secret(endpoint.secret_ref.name, f"{field}.secretRef", settings)


def model_identity(source: ModelSource) -> str:
    """Return the string that names the weights."""
    return source.artifact.digest if source.artifact is not None else source.hub or ""


def server_for(template: ServerTemplate, model: ModelRef) -> LLMServer:
    """Return the server spec of a model served as the template says."""
    return LLMServer(
        model=model,
        replicas=template.replicas,
        tensor_parallel_size=template.tensor_parallel_size,
        max_model_len=template.max_model_len,
        dtype=template.dtype,
        engine_args=template.engine_args,
        compute=template.compute,
    )
