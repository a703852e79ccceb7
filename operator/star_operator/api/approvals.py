"""Who may approve and override: a ValidatingAdmissionPolicy, by which the API server believes nobody but the user.

An entry of a Promotion's `spec.approvals` is its user's own: nobody adds, changes or removes another one's. To approve
needs the verb `approve` on promotions, to override the verb `override`; both are verbs of RBAC that nothing else has.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from typing import Any

import yaml

from star_contracts.names import GROUP, VERSION
from star_operator.api.promotion import Promotion

PLURAL = Promotion.INFO.plural
ME = "request.userInfo.username"


def _may(verb: str) -> str:
    name = "has(object.metadata.name) ? object.metadata.name : ''"
    resource = f"authorizer.group('{GROUP}').resource('{PLURAL}').namespace(request.namespace).name({name})"
    return f"{resource}.check('{verb}').allowed()"


VARIABLES = {
    "before": "oldObject != null && has(oldObject.spec.approvals) ? oldObject.spec.approvals : []",
    "after": "has(object.spec.approvals) ? object.spec.approvals : []",
    "changed": "variables.after.filter(one, !variables.before.exists(other, other == one))",
    "gone": "variables.before.filter(one, !variables.after.exists(other, other.user == one.user))",
    "overrides": "has(object.spec.override) && "
    "!(oldObject != null && has(oldObject.spec.override) && oldObject.spec.override == object.spec.override)",
}
VALIDATIONS: tuple[tuple[str, str], ...] = (
    (
        f"variables.changed.all(one, one.user == {ME})",
        f"'spec.approvals: you are ' + {ME} + ', and approve as yourself alone: so set user to that'",
    ),
    (
        f"variables.gone.all(one, one.user == {ME})",
        f"'spec.approvals: you are ' + {ME} + ', and take back your own approval alone; the others stay'",
    ),
    (
        f"size(variables.changed) == 0 || {_may('approve')}",
        f"'spec.approvals: ' + {ME} + ' has no right to approve: it needs the verb approve on {PLURAL}.{GROUP}'",
    ),
    (
        f"!variables.overrides || object.spec.override.user == {ME}",
        f"'spec.override: you are ' + {ME} + ', and override as yourself alone: so set user to that'",
    ),
    (
        f"!variables.overrides || {_may('override')}",
        f"'spec.override: ' + {ME} + ' has no right to override: it needs the verb override on {PLURAL}.{GROUP}'",
    ),
)
"""Expression, and message as an expression."""


def policy_spec() -> dict[str, Any]:
    """Return the policy's spec."""
    rule = {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": ["CREATE", "UPDATE"], "resources": [PLURAL]}
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "variables": [{"name": name, "expression": expression} for name, expression in VARIABLES.items()],
        "validations": [
            {"expression": expression, "messageExpression": message, "reason": "Forbidden"}
            for expression, message in VALIDATIONS
        ],
    }


def is_whole(spec: dict[str, Any]) -> bool:
    """Say whether a policy, as the API server has it, refuses all that ours refuses."""
    ours, constraints = policy_spec(), spec.get("matchConstraints") or {}
    selectors = (constraints.get("namespaceSelector"), constraints.get("objectSelector"))
    narrowed = any(selectors) or constraints.get("excludeResourceRules") or spec.get("matchConditions")
    expressions = {one.get("expression") for one in spec.get("validations") or ()}
    return (
        spec.get("failurePolicy", "Fail") == "Fail"
        and not narrowed
        and not spec.get("paramKind")
        and any(_covers(rule, ours["matchConstraints"]["resourceRules"][0]) for rule in constraints["resourceRules"])
        and spec.get("variables") == ours["variables"]
        and {expression for expression, _ in VALIDATIONS} <= expressions
    )


def _covers(rule: dict[str, Any], ours: dict[str, Any]) -> bool:
    return not rule.get("resourceNames") and all(set(ours[key]) <= set(rule.get(key) or ()) for key in ours)


def binds(spec: dict[str, Any], policy: str) -> bool:
    """Say whether a binding puts a policy into force everywhere."""
    narrowed = spec.get("paramRef") or any((spec.get("matchResources") or {}).get(key) for key in _NARROWING)
    return spec.get("policyName") == policy and "Deny" in (spec.get("validationActions") or ()) and not narrowed


_NARROWING = ("namespaceSelector", "objectSelector", "resourceRules", "excludeResourceRules")


def render() -> str:
    """Return the policy's spec as YAML, the same bytes every time."""
    head = (
        "# The spec of the ValidatingAdmissionPolicy about approvals. Generated from star_operator/api/approvals.py.\n"
    )
    return head + yaml.safe_dump(policy_spec(), sort_keys=False, width=1000)
