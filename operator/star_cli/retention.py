"""`starctl gc`, `starctl pin`, `starctl unpin`: what retention lets go and why the rest stays, and a word in it.

What is listed is decided by the operator's own code on the cluster as it is now. Nothing is deleted from here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from star_cli.demo.cli import Kubeconfig, Name, Namespace
from star_cli.errors import StarctlError
from star_cli.local.errors import LocalClusterError
from star_cli.local.paths import DEFAULT_NAME
from star_cli.resources import ORDER, Reader, collection
from star_contracts.names import GROUP, LABEL_KIND, VERSION
from star_operator.api.kinds import BY_KIND, KINDS
from star_operator.core.labels import OURS, PIN_ANNOTATION, RETENTION
from star_operator.core.settings import Settings
from star_operator.policy.holdings import Thing, is_namespaced, thing, told
from star_operator.policy.retention import Decision, LetGo, decide
from star_operator.policy.sweeping import in_use

SETTINGS_FILE = "settings.yaml"
DRY_RUN_ONLY = (
    "nothing is deleted from here: the operator does it whenever a run has ended; --dry-run shows what would go"
)


class Writer(Reader, Protocol):
    """What changes objects of a cluster (`star_cli.local.kubeapi.KubeApi`)."""

    def merge(self, path: str, patch: Any) -> dict[str, Any]:
        """JSON merge patch of the object at a URL path."""


@dataclass(frozen=True)
class Listing:
    """What retention says of a namespace."""

    things: Sequence[Thing]
    decision: Decision
    settings: Settings | None
    """The cluster's; None where they cannot be read, and the chart's defaults are taken."""

    def lines(self) -> Iterator[str]:
        """Yield a line a resource, in the order of the chain: what goes, then what stays."""
        if self.settings is None:
            yield "the operator's settings cannot be read: this is as the chart's defaults say"
        if self.settings is not None and not self.settings.retention.enabled:
            yield "retention.enabled is false in the chart's values: nothing goes; this is what would"
        going = {one.thing.uid: one for one in self.decision.let_go}
        ordered = sorted(self.things, key=lambda one: (one.uid not in going, ORDER[one.kind], one.name))
        for one in ordered:
            yield self._goes(going[one.uid]) if one.uid in going else self._stays(one)

    def _goes(self, one: LetGo) -> str:
        artifacts = [artifact for artifact in one.thing.artifacts if artifact.digest not in self.decision.held]
        store = f"; its artifact {one.grace_seconds / 3600:.3g} h later" if artifacts else ""
        shared = len(artifacts) < len(one.thing.artifacts)
        return f"goes   {one.thing.kind}/{one.thing.name}: {one.why}{store}{'; its artifact stays' if shared else ''}"

    def _stays(self, one: Thing) -> str:
        return f"stays  {one.kind}/{one.name}: {'; '.join(self.decision.kept.get(one.uid, ()))}"


def listing(api: Reader, namespace: str) -> Listing:
    """Look at a namespace as the operator does. Raises LocalClusterError when it cannot be read."""
    selector = ",".join(f"{key}={value}" for key, value in OURS.items())
    maps = api.get(f"/api/v1/namespaces/{namespace}/configmaps?labelSelector={quote(selector)}") or {}
    ours = [one for one in maps.get("items", []) if one["metadata"].get("labels", {}).get(LABEL_KIND) != RETENTION]
    bodies: list[dict[str, Any]] = []
    for kind in KINDS:
        path = collection(kind.INFO.plural, namespace)
        found = api.get(path if is_namespaced(kind.INFO.kind) else path.replace(f"/namespaces/{namespace}", "")) or {}
        named = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind.INFO.kind}
        bodies += [{**named, **body} for body in found.get("items", [])]
    things, settings = [thing(body) for body in bodies], cluster_settings(api)
    rules = settings.retention if settings is not None else Settings.model_fields["retention"].default
    return Listing(things, decide(things, in_use(things, [told(one) for one in ours]), rules), settings)


def cluster_settings(api: Reader) -> Settings | None:
    """Return the settings of the cluster's operator; None where they cannot be read."""
    try:
        found = api.get("/api/v1/configmaps?labelSelector=" + quote("app.kubernetes.io/name=star-operator")) or {}
        texts = [one["data"][SETTINGS_FILE] for one in found.get("items", []) if SETTINGS_FILE in one.get("data", {})]
        return Settings.model_validate(yaml.safe_load(texts[0])) if texts else None
    except (LocalClusterError, ValidationError, yaml.YAMLError):
        return None


def annotate(api: Writer, namespace: str, resource: str, why: str | None) -> str:
    """Pin a resource, given as KIND/NAME, or with None unpin it; return what was done.

    Raises StarctlError when there is no such kind or resource.
    """
    word, _, name = resource.partition("/")
    infos = [kind.INFO for kind in BY_KIND.values()]
    info = next((one for one in infos if word.lower() in (one.kind.lower(), one.plural, one.short)), None)
    if info is None or not name:
        known = ", ".join(one.kind for one in infos)
        raise StarctlError(f"{resource!r} is no resource of ours: write KIND/NAME, KIND being one of {known}")
    path = f"{collection(info.plural, namespace)}/{name}"
    if api.get(path) is None:
        raise StarctlError(f"there is no {info.kind} {name} in namespace {namespace}; `starctl gc --dry-run` lists all")
    api.merge(path, {"metadata": {"annotations": {PIN_ANNOTATION: why}}})
    return f"{info.kind}/{name} is {'pinned: it stays, and what it refers to' if why is not None else 'not pinned'}"


Resource = Annotated[str, typer.Argument(help="KIND/NAME, e.g. checkpoint/amazon-weekly-grpo.")]


def gc(
    namespace: Namespace = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it; nothing is deleted from here.")] = False,
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """List what retention lets go of a namespace, and why what stays stays."""
    if not dry_run:
        raise StarctlError(DRY_RUN_ONLY)
    with _cluster(kubeconfig, name) as api:
        for line in listing(api, namespace).lines():
            Console().print(line, markup=False, highlight=False, soft_wrap=True)


def pin(
    resource: Resource,
    why: Annotated[str, typer.Option("--why", help="Why it has to stay; `starctl gc` shows it.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Have retention keep a resource, its artifact, and what it refers to."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(annotate(api, namespace, resource, why))


def unpin(
    resource: Resource,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Take a pin off again."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(annotate(api, namespace, resource, None))


def _cluster(kubeconfig: Any, name: str) -> Any:
    from contextlib import closing

    from star_cli.local.cluster import LocalCluster
    from star_cli.local.kubeapi import KubeApi

    return closing(KubeApi(kubeconfig or LocalCluster(name).kubeconfig, timeout=30.0))
