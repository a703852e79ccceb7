"""What Argo CD is told of our kinds: how healthy a resource is, and what may be done with it from there.

The keys are those of ConfigMap `argocd-cm`; each kind's scripts are the same Lua, and what a kind offers follows from
its own fields. Argo CD gives scripts the base and table libraries alone.
https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#custom-health-checks,
https://argo-cd.readthedocs.io/en/stable/operator-manual/resource_actions/
"""

from importlib import resources
from typing import Any

import yaml

from star_contracts.names import GROUP
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Resource

APPROVER = "system:serviceaccount:argocd:argocd-server"
"""The user that Argo CD's API server is for Kubernetes, as its own installation makes it."""
ANYWHERE = ("suspend", "resume", "cancel")
"""Actions of every kind whose spec has the field."""
BY_KIND = {
    "StarPipeline": ("retry",),
    "RetrainSchedule": ("run-now",),
    "Promotion": ("approve",),
    "PromotionPolicy": ("promote",),
}
_FIELD = {"resume": "suspend"}
_HEAD = """\
# Generated from star_operator.api by `make generate`; do not edit. Health checks and actions of our kinds, for Argo CD:
# a server-side apply in its namespace adds these keys to argocd-cm and leaves the others alone.
"""


def offered(kind: type[Resource[Any, Any]]) -> tuple[str, ...]:
    """Return the names of a kind's actions."""
    fields = kind.spec_type().model_fields
    common = tuple(name for name in ANYWHERE if _FIELD.get(name, name) in fields)
    return common + BY_KIND.get(kind.INFO.kind, ())


def customizations() -> dict[str, str]:
    """Return what belongs into the data of `argocd-cm`."""
    data: dict[str, str] = {}
    for kind in KINDS:
        key = f"{GROUP}_{kind.INFO.kind}"
        data[f"resource.customizations.health.{key}"] = _lua("health")
        if names := offered(kind):
            data[f"resource.customizations.actions.{key}"] = _dump(_actions(names))
    return data


def render() -> str:
    """Return the customizations as a ConfigMap named `argocd-cm`, the same bytes every time."""
    labels = {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"}
    metadata = {"name": "argocd-cm", "labels": labels}
    return _HEAD + _dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": customizations()})


def render_data() -> str:
    """Return the customizations alone, for the chart."""
    return _HEAD.partition(". Health")[0] + ".\n" + _dump(customizations())


def _actions(names: tuple[str, ...]) -> dict[str, Any]:
    listed = ", ".join(f'"{name}"' for name in names)
    scripts = [{"name": name, "action.lua": script(name)} for name in names]
    return {"discovery.lua": f"local offered = {{{listed}}}\n{_lua('discovery')}", "definitions": scripts}


def script(action: str) -> str:
    """Return the Lua of an action."""
    return (f'local approver = "{APPROVER}"\n' if action == "approve" else "") + _lua(action)


def _lua(name: str) -> str:
    return (resources.files("star_operator.api") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Writes scripts as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dump(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
