"""`starctl promote`, `approve`, `override`, `hold` and `release`: thin words over Promotions and their policies.

Who approves or overrides is who the API server says you are (SelfSubjectReview); it refuses anybody else's name.
"""

from typing import Annotated, Any, Protocol

import typer

from star_cli.demo.cli import Kubeconfig, Name, Namespace
from star_cli.errors import StarctlError
from star_cli.local.paths import DEFAULT_NAME
from star_cli.resources import Reader, collection
from star_contracts.names import GROUP, VERSION
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.builders.names import dns_label
from star_operator.builders.promotion import automatic_name, template

WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class Writer(Reader, Protocol):
    """What changes objects of a cluster (`star_cli.local.kubeapi.KubeApi`)."""

    def merge(self, path: str, patch: Any) -> dict[str, Any]:
        """JSON merge patch of the object at a URL path."""

    def create(self, path: str, manifest: Any) -> dict[str, Any]:
        """Create an object in the collection at a URL path."""


def who(api: Writer) -> str:
    """Return the name under which the API server knows us."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    return str(api.create(WHOAMI, body)["status"]["userInfo"]["username"])


def promote(api: Writer, namespace: str, checkpoint: str, environment: str, name: str | None) -> str:
    """Make a Promotion of a Checkpoint from an environment's policy; return what was done."""
    policy = PromotionPolicy.parse(_get(api, namespace, PromotionPolicy, environment))
    record = Checkpoint.parse(_get(api, namespace, Checkpoint, checkpoint))
    digest = record.spec.digest
    wanted = name or _free(api, namespace, environment, digest)
    wish = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": Promotion.INFO.kind,
        "metadata": {"namespace": namespace, "name": wanted},
        "spec": {**template(policy), "checkpoint": {"name": checkpoint, "digest": digest}},
    }
    api.create(collection(Promotion.INFO.plural, namespace), wish)
    return f"Promotion/{wanted} moves {checkpoint} ({digest[:19]}) to {environment}"


def _free(api: Reader, namespace: str, environment: str, digest: str) -> str:
    """Return a name that is not taken: a digest may be promoted more than once, as after a rollback."""
    base = automatic_name(environment, digest)
    names = [base, *(dns_label(f"{base}-{number}", 63) for number in range(2, 1000))]
    return next(name for name in names if api.get(_path(namespace, Promotion, name)) is None)


def approve(api: Writer, namespace: str, name: str, comment: str | None) -> str:
    """Add our approval of the digest that a Promotion moves; return what was done."""
    body = _get(api, namespace, Promotion, name)
    digest = (body.get("status") or {}).get("digest") or body["spec"]["checkpoint"].get("digest")
    if not digest:
        raise StarctlError(
            f"Promotion {name} has no digest yet, and what is approved is a digest; see `kubectl get promo`"
        )
    me = who(api)
    mine = {"user": me, "digest": digest, **({"comment": comment} if comment else {})}
    _merge_approvals(api, namespace, name, [*_others(body, me), mine], body)
    return f"{me} approved {digest[:19]} in Promotion/{name}"


def take_back(api: Writer, namespace: str, name: str) -> str:
    """Take our approval back; return what was done."""
    body, me = _get(api, namespace, Promotion, name), who(api)
    _merge_approvals(api, namespace, name, _others(body, me), body)
    return f"{me} approves Promotion/{name} no more"


def _others(body: dict[str, Any], me: str) -> list[dict[str, Any]]:
    return [one for one in body["spec"].get("approvals", ()) if one["user"] != me]


def _merge_approvals(api: Writer, namespace: str, name: str, approvals: list[Any], body: dict[str, Any]) -> None:
    """Write the approvals, at the version that was read: somebody else may approve at the same moment."""
    version = body["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"approvals": approvals}}
    api.merge(_path(namespace, Promotion, name), patch)


def override(api: Writer, namespace: str, name: str, reason: str) -> str:
    """Let a Promotion do without what its environment requires; return what was done."""
    _get(api, namespace, Promotion, name)
    me = who(api)
    api.merge(_path(namespace, Promotion, name), {"spec": {"override": {"user": me, "reason": reason}}})
    return f"{me} let Promotion/{name} do without what its environment requires: {reason}"


def hold(api: Writer, namespace: str, environment: str, reason: str, digest: str | None) -> str:
    """Keep a digest in an environment, by default the one that was promoted last; return what was done."""
    body = _get(api, namespace, PromotionPolicy, environment)
    kept = digest or (body.get("status") or {}).get("standing")
    if not kept:
        raise StarctlError(f"nothing was promoted to {environment} yet: say which digest to hold with --digest")
    patch = {"spec": {"hold": {"digest": kept, "reason": reason}}}
    api.merge(_path(namespace, PromotionPolicy, environment), patch)
    return f"PromotionPolicy/{environment} is held at {kept[:19]}: no other digest comes in until it is released"


def release(api: Writer, namespace: str, environment: str) -> str:
    """Release a hold; return what was done."""
    _get(api, namespace, PromotionPolicy, environment)
    api.merge(_path(namespace, PromotionPolicy, environment), {"spec": {"hold": None}})
    return f"PromotionPolicy/{environment} is not held"


def _path(namespace: str, kind: Any, name: str) -> str:
    return f"{collection(kind.INFO.plural, namespace)}/{name}"


def _get(api: Reader, namespace: str, kind: Any, name: str) -> dict[str, Any]:
    body = api.get(_path(namespace, kind, name))
    if body is None:
        info = kind.INFO
        raise StarctlError(
            f"there is no {info.kind} {name} in namespace {namespace}; `kubectl get {info.short}` lists all"
        )
    return body


Environment = Annotated[str, typer.Argument(help="A PromotionPolicy's name.")]
PromotionName = Annotated[str, typer.Argument(metavar="PROMOTION", help="A Promotion's name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; status, Events and the commit tell it.")]


def promote_command(
    checkpoint: Annotated[str, typer.Argument(help="A Checkpoint's name.")],
    to: Annotated[str, typer.Option("--to", help="The environment: a PromotionPolicy's name.")],
    promotion: Annotated[
        str | None, typer.Option("--as", help="The Promotion's name; one is chosen by default.")
    ] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Move a checkpoint to an environment, once all holds that it requires."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(promote(api, namespace, checkpoint, to, promotion))


def approve_command(
    promotion: PromotionName,
    comment: Annotated[str | None, typer.Option("--comment", help="What the commit will quote.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take your approval back.")] = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Approve the digest that a Promotion moves, as the user that you are."""
    with _cluster(kubeconfig, name) as api:
        said = take_back(api, namespace, promotion) if withdraw else approve(api, namespace, promotion, comment)
        typer.echo(said)


def override_command(
    promotion: PromotionName,
    reason: Reason,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Let a Promotion do without what its environment requires; needs the verb override."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(override(api, namespace, promotion, reason))


def hold_command(
    environment: Environment,
    reason: Reason,
    digest: Annotated[str | None, typer.Option("--digest", help="Which; by default what was promoted last.")] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Keep a digest in an environment: no other one comes in until it is released."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(hold(api, namespace, environment, reason, digest))


def release_command(
    environment: Environment,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Release an environment that was held."""
    with _cluster(kubeconfig, name) as api:
        typer.echo(release(api, namespace, environment))


def _cluster(kubeconfig: Any, name: str) -> Any:
    from contextlib import closing

    from star_cli.local.cluster import LocalCluster
    from star_cli.local.kubeapi import KubeApi

    return closing(KubeApi(kubeconfig or LocalCluster(name).kubeconfig, timeout=30.0))
