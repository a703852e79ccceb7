"""Hosts that a resource has pods call, and Secrets that go there: what the platform does not want is refused."""

from star_contracts.addresses import host_of, is_allowed_host, is_forbidden_host
from star_contracts.promotion import repository_host
from star_operator.api.promotion import Delivery
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Settings


def require_endpoint(url: str, field: str, settings: Settings) -> None:
    """Raise InvalidSpec(ForbiddenEndpoint) for the URL of an LLM that pods may not call; `field` is where it stands."""
    _require_host(host_of(url), field, settings.allowed_endpoint_hosts, "allowedEndpointHosts")


def require_git(delivery: Delivery, settings: Settings) -> None:
    """Raise InvalidSpec(ForbiddenEndpoint) for a repository, or a forge, that a promotion's Job may not call."""
    allowed, setting, forge = settings.allowed_git_hosts, "allowedGitHosts", delivery.git.forge
    _require_host(repository_host(delivery.target.repository), "spec.target.repository", allowed, setting)
    if forge is not None and forge.url is not None:
        _require_host(host_of(forge.url), "spec.git.forge.url", allowed, setting)


def require_own_secret(name: str, field: str, settings: Settings) -> None:
    """Raise InvalidSpec(ForbiddenEndpoint) for a Secret of the platform's, whose keys are for other places."""
    holds = _platform_secrets(settings).get(name)
    if holds is not None:
        raise InvalidSpec(
            ConditionReason.FORBIDDEN_ENDPOINT,
            f"{field} names {name}, which holds {holds}; make a Secret with the endpoint's own key",
        )


def _platform_secrets(settings: Settings) -> dict[str, str]:
    """Return the Secrets that the chart's values name in every namespace, with what they hold."""
    found = dict.fromkeys(settings.image_pull_secrets, "a password of the image registry")
    found[settings.proofs.signing_secret_name] = "the key that proofs are signed with"
    found[settings.store.secret_name] = "the keys of the artifact store"
    return {name: holds for name, holds in found.items() if name}


def _require_host(host: str, field: str, allowed: tuple[str, ...], setting: str) -> None:
    if not host or is_forbidden_host(host):
        raise InvalidSpec(
            ConditionReason.FORBIDDEN_ENDPOINT,
            f"{field} names {host or 'no host'}, where nodes and clouds keep credentials of their own; name the host "
            "that is meant to answer",
        )
    if not is_allowed_host(host, allowed):
        raise InvalidSpec(
            ConditionReason.FORBIDDEN_ENDPOINT,
            f"{field} names {host}, which is none of the hosts that are allowed in this cluster "
            f"({', '.join(allowed)}); use one of them, or ask whoever runs the operator to add it to "
            f"settings.{setting} of the chart",
        )
