"""Names, labels and owner references of children: functions of the owner, so that a child is always found again."""

import re
from typing import Any

from star_contracts.base import value_hash
from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import API_VERSION
from star_operator.builders.step import Owner
from star_operator.core.labels import OURS, label_value, resource_labels

MAX_NAME = 52
"""Characters of a child's name: pods of an Indexed Job add `-<index>-<5 random>`, and host names end at 63."""
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def child_name(owner: Owner, attempt: int | None, role: str) -> str:
    """Return `<name>-<short kind>[-<attempt>]-<role>`, e.g. `demo-sft-1-train`: a DNS-1035 label of <= 52 characters.

    A name that is too long, or that holds what only a subdomain may (dots, a leading digit), is cut and gets a hash of
    the whole identity at its end, so that two owners never share a child.
    """
    short = BY_KIND[owner.kind].INFO.short if owner.kind in BY_KIND else owner.kind.lower()
    parts = [owner.name, short, *([] if attempt is None else [str(attempt)]), role]
    return dns_label("-".join(parts), MAX_NAME)


def dns_label(text: str, limit: int) -> str:
    """Return the text as a DNS-1035 label of at most `limit` characters, hashed at its end when it had to change."""
    if len(text) <= limit and DNS_1035.fullmatch(text):
        return text
    safe = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    safe = safe if safe[:1].isalpha() else f"x{safe}"
    return f"{safe[: limit - 9].rstrip('-')}-{value_hash(text).removeprefix('sha256:')[:8]}"


def labels(owner: Owner, step: str | None = None, attempt: int | None = None) -> dict[str, str]:
    """Return the labels of a child; without step and attempt, those that select all children of the owner."""
    found = common_labels(owner.kind.lower()) | resource_labels(owner.kind, owner.name)
    if step is not None:
        found[LABEL_STEP] = step
    if attempt is not None:
        found[LABEL_ATTEMPT] = str(attempt)
    return found


def common_labels(app: str) -> dict[str, str]:
    """Return the recommended labels (kubernetes.io, `Recommended Labels`) of anything this operator makes."""
    return {
        "app.kubernetes.io/name": label_value(app),
        "app.kubernetes.io/part-of": "star",
        **OURS,
    }


def owner_reference(owner: Owner) -> dict[str, Any]:
    """Return the reference that makes the owner the child's controller: the child goes when the owner goes."""
    return user_reference(owner) | {"controller": True, "blockOwnerDeletion": True}


def user_reference(owner: Owner) -> dict[str, Any]:
    """Return a reference without control: a shared child goes when its last user goes."""
    return {"apiVersion": API_VERSION, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
