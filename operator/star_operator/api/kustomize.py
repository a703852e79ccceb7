"""manifests/kustomize: tells kustomize which fields of our kinds hold names, so that prefixes and hashes reach them.

Generated from the models: each field that holds a name says of which kinds (`api.references`), and one that does not is
refused. (kubectl.docs.kubernetes.io, `Transformer Configurations`: nameReference.)
"""

from collections.abc import Iterator
from typing import Any

import yaml

from star_contracts.names import GROUP
from star_operator.api.common import NAME_PATTERN
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Scope
from star_operator.api.references import REFERS
from star_operator.api.schema import Schema, json_schema
from star_operator.api.teacherrun import AGENTS

FOREIGN = {
    "Secret": {"version": "v1"},
    "ServiceAccount": {"version": "v1"},
    "PriorityClass": {"group": "scheduling.k8s.io"},
    "LocalQueue": {"group": "kueue.x-k8s.io"},
}
"""Kinds of others whose names our fields hold."""
BY_OTHERS = {
    "StarDeployment": (
        ("autoscaling", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
        ("keda.sh", "ScaledObject", "spec/scaleTargetRef/name"),
        ("networking.k8s.io", "Ingress", "spec/defaultBackend/service/name"),
        ("networking.k8s.io", "Ingress", "spec/rules/http/paths/backend/service/name"),
        ("gateway.networking.k8s.io", "HTTPRoute", "spec/rules/backendRefs/name"),
    )
}
"""Fields of others that hold names of ours: what scales a StarDeployment, or routes to the Service of its name."""
KEYS = {"agentLlms": AGENTS}
"""Maps whose values hold names, with the keys they may have: kustomize's paths know no wildcard."""
HEAD = """\
# Generated from star_operator.api by `make generate`; do not edit.
"""
COMPONENT = f"""\
{HEAD}# Put `components: [<this folder>]` into a kustomization.yaml that has STAR resources among its own: namePrefix,
# nameSuffix and the hashes of secretGenerator then reach every field that holds a name.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configurations:
- name-references.yaml
"""


def files() -> dict[str, str]:
    """Return the folder's files by name."""
    scaled = [(kind.INFO, kind.INFO.scale) for kind in KINDS if kind.INFO.scale is not None]
    replicas = [_field(scale.spec.lstrip(".").replace(".", "/"), info.kind) for info, scale in scaled]
    dumped = yaml.safe_dump({"nameReference": name_references(), "replicas": replicas}, sort_keys=False, width=120)
    return {"kustomization.yaml": COMPONENT, "name-references.yaml": HEAD + dumped}


def name_references() -> list[dict[str, Any]]:
    """Return kustomize's `nameReference`: by kind that is named, the fields that may name it.

    Raises ValueError for a field that holds a name and does not say of what.
    """
    fields: dict[str, list[dict[str, str]]] = {}
    for kind in KINDS:
        if kind.INFO.scope is Scope.CLUSTER:  # it names objects of the tenants' namespaces
            continue
        raw = json_schema(kind.spec_type())
        for path, named in _references(raw, raw.get("$defs", {}), "spec"):
            for one in named:
                fields.setdefault(one, []).append(_field(path, kind.INFO.kind))
    for one, others in BY_OTHERS.items():
        fields.setdefault(one, []).extend(_field(path, kind, group) for group, kind, path in others)
    order = [kind.INFO.kind for kind in KINDS] + list(FOREIGN)
    return [
        {"kind": one, **FOREIGN.get(one, {"group": GROUP}), "fieldSpecs": fields[one]} for one in order if one in fields
    ]


def _field(path: str, kind: str, group: str = GROUP) -> dict[str, str]:
    """Return a kustomize FieldSpec."""
    return {"path": path, "kind": kind, "group": group}


def _references(raw: Schema, defs: dict[str, Schema], path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the path of each field that holds a name, as kustomize writes it, with the kinds it may be of."""
    node = {**defs[raw["$ref"].removeprefix("#/$defs/")], **raw} if "$ref" in raw else raw
    if REFERS in node:
        yield path, node[REFERS]
    elif node.get("pattern") == NAME_PATTERN:
        raise ValueError(f"{path} holds a name: say of which kinds, with star_operator.api.references.refers_to")
    for name, item in node.get("properties", {}).items():
        yield from _references(item, defs, f"{path}/{name}")
    if "items" in node:
        yield from _references(node["items"], defs, path)
    if isinstance(node.get("additionalProperties"), dict):
        field = path.rpartition("/")[2]
        inner = list(_references(node["additionalProperties"], defs, ""))
        if inner and field not in KEYS:
            raise ValueError(f"{path} is a map whose values hold names: list its keys in star_operator.api.kustomize")
        yield from ((f"{path}/{key}{below}", named) for key in KEYS.get(field, ()) for below, named in inner)
