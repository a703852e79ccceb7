"""Transition rules: which fields of a spec may change after creation, as CEL in the CRD.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#transition-rules
"""

from star_operator.api.meta import KindInfo
from star_operator.api.schema import Schema

COMPUTE = "compute"
COMPUTE_MUTABLE = frozenset({"priorityClassName", "queueName"})
"""Inside `spec.compute`: priority and queue say when a run starts, not what it does."""


def transition_rules(info: KindInfo, spec: Schema) -> list[Schema]:
    """Return the rules, to be put on the spec itself: a rule on an optional field never sees it come or go.

    `spec` is the structural schema of the kind's spec.
    """
    if not info.run_to_completion:
        return []
    rules: list[Schema] = []
    for field, schema in spec["properties"].items():
        if field in info.mutable:
            continue
        if field == COMPUTE:
            inner = {name: item for name, item in schema["properties"].items() if name not in COMPUTE_MUTABLE}
            rules += [_rule(info, f"{COMPUTE}.{name}", _present(name, schema)) for name in inner]
        else:
            rules.append(_rule(info, field, _present(field, spec)))
    return rules


def _present(field: str, parent: Schema) -> bool:
    """Return whether the field is there in every stored object: required, or filled in by its default."""
    return field in parent.get("required", ()) or "default" in parent["properties"][field]


def _rule(info: KindInfo, path: str, present: bool) -> Schema:
    new, old = f"self.{path}", f"oldSelf.{path}"
    same = f"{new} == {old}"
    rule = same if present else f"has({new}) == has({old}) && (!has({new}) || {same})"
    keeps = "a run keeps its spec" if info.mutable else "a record keeps its spec"
    message = f"spec.{path} is immutable: {keeps}; create a new {info.kind} instead"
    return {"rule": rule, "message": message, "fieldPath": f".{path}"}
