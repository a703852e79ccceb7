"""The CustomResourceDefinitions, generated from the models of this package.

    python -m star_operator.api.crd --out charts/star-operator/resources/crds

writes one file a kind. Nobody edits those files: a test compares them with what this module returns.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from star_contracts.names import GROUP, VERSION
from star_operator.api.immutability import transition_rules
from star_operator.api.kinds import KINDS
from star_operator.api.meta import RULES, Column, KindInfo, Resource
from star_operator.api.schema import Schema, structural

CATEGORY = "recsys"
"""`kubectl get recsys` lists all kinds. Not `star`: kubectl looks at categories before StarDeployment's short name."""

_UNSEEN = {"observedGeneration": -1}
"""The status of what no operator has looked at: without it kstatus takes a new resource for done, as Flux' kinds do."""


def crd(kind: type[Resource[Any, Any]]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind (apiextensions.k8s.io/v1)."""
    info = kind.INFO
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": file_stem(info), "labels": {"app.kubernetes.io/part-of": "star"}},
        "spec": {
            "group": GROUP,
            "names": _names(info),
            "scope": str(info.scope),
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema(kind)},
                    "subresources": _subresources(info),
                    "additionalPrinterColumns": [_column(column) for column in info.columns],
                }
            ],
        },
    }


def file_stem(info: KindInfo) -> str:
    """Return the CRD's name, which is also its file's."""
    return f"{info.plural}.{GROUP}"


def render(kind: type[Resource[Any, Any]]) -> str:
    """Return the CRD as YAML, the same bytes every time."""
    head = "# Generated from star_operator.api by `make generate`; do not edit.\n"
    return head + yaml.dump(crd(kind), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    """Writes equal lists out each time: anchors would tie fields together that have nothing to do with each other."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _names(info: KindInfo) -> dict[str, Any]:
    return {
        "kind": info.kind,
        "listKind": f"{info.kind}List",
        "plural": info.plural,
        "singular": info.kind.lower(),
        "shortNames": [info.short],
        "categories": [CATEGORY],
    }


def _subresources(info: KindInfo) -> dict[str, Any]:
    if info.scale is None:
        return {"status": {}}
    paths = {
        "specReplicasPath": info.scale.spec,
        "statusReplicasPath": info.scale.status,
        "labelSelectorPath": info.scale.selector,
    }
    return {"status": {}, "scale": paths}


def _schema(kind: type[Resource[Any, Any]]) -> Schema:
    spec = structural(kind.spec_type())
    rules = [*spec.get(RULES, []), *transition_rules(kind.INFO, spec)]
    if rules:
        spec[RULES] = rules
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Always {kind.INFO.kind}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {**structural(kind.status_type(), status=True), "default": _UNSEEN},
        },
    }


def _column(column: Column) -> dict[str, Any]:
    rendered: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**rendered, "priority": column.priority} if column.priority else rendered


def main() -> None:
    """Write all CRDs into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder; it is made if it is not there")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (out / f"{file_stem(kind.INFO)}.yaml").write_text(render(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
