"""An `llm` block -> where to call, which servers to run, which keys to mount."""

from dataclasses import dataclass, field

from star_contracts.addresses import host_of, is_allowed_host, is_forbidden_host
from star_contracts.job import LLMEndpoint, ModelSource
from star_contracts.names import SPEC_DIR
from star_operator.api.common import LLM, Endpoint, LLMServer, ModelRef, SecretKeyRef
from star_operator.api.serving import ServerTemplate
from star_operator.builders.step import ServerPlan
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
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

    Raises InvalidSpec(ForbiddenEndpoint) for a host that pods may not call, or the store's keys as the API key.
    """
    if llm.endpoint is not None:
        _refuse_host(llm.endpoint, role, settings)
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


def _refuse_host(endpoint: Endpoint, role: str, settings: Settings) -> None:
    """Refuse what would send a Secret, or a request in the pod's name, where the platform does not want it."""
    field, host = f"{role.replace('llm.', 'agentLlms.', 1)}.endpoint", host_of(endpoint.url)
    if not host or is_forbidden_host(host):
        problem = f"{field}.url names {host or 'no host'}, where nodes and clouds keep credentials of their own"
        raise InvalidSpec(ConditionReason.FORBIDDEN_ENDPOINT, f"{problem}; name the endpoint of an LLM")
    if not is_allowed_host(host, settings.allowed_endpoint_hosts):
        allowed = ", ".join(settings.allowed_endpoint_hosts)
        raise InvalidSpec(
            ConditionReason.FORBIDDEN_ENDPOINT,
            f"{field}.url names {host}, which is none of the hosts that are allowed in this cluster ({allowed}); use "
            "one of them, or ask whoever runs the operator to add it to settings.allowedEndpointHosts of the chart",
        )
    if endpoint.secret_ref is not None and endpoint.secret_ref.name == settings.store.secret_name:
        raise InvalidSpec(
            ConditionReason.FORBIDDEN_ENDPOINT,
            f"{field}.secretRef names {endpoint.secret_ref.name}, which holds the keys of the artifact store; make a "
            "Secret with the endpoint's own key",
        )


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
