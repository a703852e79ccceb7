"""A run's hub models, pinned: resolved to commits once, and remembered in status."""

from dataclasses import replace

from star_contracts.job import ModelSource
from star_operator.api.common import RunSpec
from star_operator.builders.step import Inputs
from star_operator.core.settings import Settings
from star_operator.hub import Hub, is_pinned


async def pinned(
    inputs: Inputs, remembered: dict[str, str], spec: RunSpec, settings: Settings, *, begun: bool = False
) -> dict[str, str]:
    """Return the run's hub models by role, each `org/name@<commit>`: those remembered, and those not resolved yet.

    A run that began without (with an operator of before) goes on with names: its work is known by them.

    Raises InvalidSpec(ModelNotFound), or Waiting(HubUnreachable).
    """
    found = {}
    for role, source in inputs.models.items():
        if source.hub is None:
            continue
        known = remembered.get(role)
        if known is None and not begun and not is_pinned(source.hub):
            field, pool = _place(spec, role)
            known = await Hub(settings, settings.pools[pool].env if pool in settings.pools else {}).pin(
                source.hub, field
            )
        found[role] = known or source.hub
    return found


def with_commits(inputs: Inputs, commits: dict[str, str]) -> Inputs:
    """Return the inputs with each hub model at its commit."""
    return replace(inputs, models=inputs.models | {role: ModelSource(hub=commit) for role, commit in commits.items()})


def _place(spec: RunSpec, role: str) -> tuple[str, str]:
    """Return where the spec names the model of a role, and the pool whose pods load it."""
    kind, _, agent = role.partition(".")
    if kind == "llm":
        llm = spec.agent_llms[agent] if agent else spec.llm  # type: ignore[attr-defined]  # roles are of these fields
        field = f"spec.agentLlms.{agent}" if agent else "spec.llm"
        return f"{field}.server.model", llm.server.compute.pool
    return f"spec.{role}", spec.compute.pool  # type: ignore[attr-defined]  # every run has it
