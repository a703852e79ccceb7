"""Promotions and environments in tests, made in a line."""

from typing import Any

from star_contracts.promotion import PromotionOutcome, PromotionState, PullRequest
from star_contracts.result import JobResult
from star_operator.api.approvals import policy_spec
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.core.objects import KubeObject
from tests.support.star import star

NAMESPACE = "team"
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
COMMIT = "c" * 40
GIT = {
    "secretRef": {"name": "git"},
    "author": {"name": "STAR", "email": "star@example.com"},
    "forge": {"kind": "Gitea"},
}


def target(environment: str = "prod", **changes: Any) -> dict[str, Any]:
    """The place of an environment."""
    place = {"repository": "https://git.example.com/org/repo.git", "branch": "main", "path": f"{environment}/star.yaml"}
    return {
        name: value for name, value in {**place, "field": "spec.checkpoint", **changes}.items() if value is not None
    }


def environment(name: str = "prod", **spec: Any) -> KubeObject:
    """A PromotionPolicy."""
    body = star("PromotionPolicy", NAMESPACE, name, {"target": target(name), "git": GIT} | spec)
    body["metadata"]["uid"] = f"uid-{name}"
    return body


def promotion(name: str = "p", to: str = "prod", **spec: Any) -> KubeObject:
    """A Promotion of Checkpoint `new`."""
    wish = {"checkpoint": {"name": "new"}, "target": target(to), "git": GIT}
    return star("Promotion", NAMESPACE, name, wish | spec)


def policy_of(name: str = "prod", **spec: Any) -> PromotionPolicy:
    """A PromotionPolicy, parsed."""
    return PromotionPolicy.parse(environment(name, **spec))


def promotion_of(name: str = "p", **spec: Any) -> Promotion:
    """A Promotion, parsed."""
    return Promotion.parse(promotion(name, **spec))


def guard() -> list[KubeObject]:
    """The policy about approvals, and its binding, as the chart installs them."""
    api = "admissionregistration.k8s.io/v1"
    spec = {"policyName": "star-approvals", "validationActions": ["Deny"]}
    return [
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "star-approvals"},
            "spec": policy_spec(),
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "star-approvals"},
            "spec": spec,
        },
    ]


def answer(state: PromotionState, number: int | None = None, **fields: Any) -> JobResult:
    """What a promotion's Job says when it ended well."""
    request = None
    if number is not None:
        shown = PromotionState.OPEN if state is PromotionState.OPENED else state
        request = PullRequest(number=number, url=f"https://git.example.com/org/repo/pulls/{number}", state=shown)
    found = {"branch": "main", "from_digest": OTHER, "standing": DIGEST, **fields}
    return JobResult(promotion=PromotionOutcome(state=state, pull_request=request, **found))
