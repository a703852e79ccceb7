"""The kubelet's words about Secrets -> a sentence that names the Secret, the key, the field, and what to do.

The operator may not read Secrets other than the store's (least privilege), so it learns from the pods that wait for
one. The words are the kubelet's own (pkg/kubelet: kuberuntime `makeEnvironmentVariables`, volume/projected).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from star_operator.api.common import SecretKeyRef
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import STORE_KEYS, Settings
from star_operator.core.views import RunView, ServerView, Trouble
from star_operator.policy.ending import limit_to_raise

NO_SECRET = re.compile(r'secret "(?P<name>[^"]+)" not found')
NO_KEY = re.compile(r"couldn't find key (?P<key>\S+) in Secret \S+/(?P<name>[^\s/]+)")
NO_FILE = re.compile(r"references non-existent secret key: (?P<key>\S+)")
STORE_FIELD = "store.secretName in the chart's values"
GATEWAY_FIELD = "store.gatewaySecretName in the chart's values"


@dataclass(frozen=True)
class SecretUse:
    """A Secret that a resource's pods need."""

    field: str
    """The field of the spec, or of the chart's values, that names it."""
    name: str
    keys: tuple[str, ...]


def secret_uses(spec: BaseModel, settings: Settings) -> tuple[SecretUse, ...]:
    """Return every Secret that a spec names, and the store's where pods get one."""
    named = (SecretUse(path, ref.name, (ref.key,)) for path, ref in _references(spec, "spec"))
    store = {STORE_FIELD: settings.store.secret_name, GATEWAY_FIELD: settings.store.gateway_secret_name}
    return (*named, *(SecretUse(field, name, STORE_KEYS) for field, name in store.items() if name))


def explain(trouble: Trouble | None, namespace: str, uses: tuple[SecretUse, ...], compute: str) -> Trouble | None:
    """Return the trouble in words that name the field, where it is about a Secret or a limit; else as it is.

    `compute` is the field whose `resources` the pods have.
    """
    if trouble is None:
        return None
    if remedy := limit_to_raise(trouble.message, compute):
        return replace(trouble, message=f"{trouble.message.rstrip(' .')}; {remedy}")
    if found := NO_SECRET.search(trouble.message):
        use = next((use for use in uses if use.name == found["name"]), None)
        if use is not None:
            text = f"namespace {namespace} has no Secret {use.name}, which {use.field} names"
            return Trouble(
                ConditionReason.SECRET_MISSING, f"{text}; create it with {' and '.join(use.keys)}, or correct the name"
            )
    if found := NO_KEY.search(trouble.message) or NO_FILE.search(trouble.message):
        # Of a volume the kubelet tells the key alone: every Secret that should have it may be meant.
        key, name = found["key"], found.groupdict().get("name")
        meant: dict[str, str] = {}
        for use in uses:
            if key in use.keys and name in (None, use.name):
                meant.setdefault(use.name, f"Secret {use.name} in namespace {namespace}, which {use.field} names")
        if meant:
            which = ", or ".join(meant.values())
            return Trouble(
                ConditionReason.SECRET_INCOMPLETE,
                f"{which}, has no key {key}; add it to the Secret, or name another key",
            )
    return trouble


def explain_run(view: RunView, namespace: str, uses: tuple[SecretUse, ...]) -> RunView:
    """Return the view with its pods' troubles explained."""
    told = (replace(pod, trouble=explain(pod.trouble, namespace, uses, "spec.compute")) for pod in view.pods)
    return replace(view, pods=tuple(told))


def explain_server(view: ServerView, namespace: str, uses: tuple[SecretUse, ...]) -> ServerView:
    """Return the view with its trouble explained."""
    return replace(view, trouble=explain(view.trouble, namespace, uses, "its server's compute"))


def _references(value: Any, path: str) -> Iterator[tuple[str, SecretKeyRef]]:
    if isinstance(value, SecretKeyRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _references(getattr(value, name), f"{path}.{field.alias or name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _references(item, f"{path}[{index}]")
