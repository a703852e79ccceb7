"""Which policies govern a target: (repository, branch, path, place in it), however each of them is spelt.

Two targets are the same place unless it is certain that they are not: whoever spells a repository in another way, or
names a marker where the policy names a field, gets round nothing. What only DNS or the forge knows (another name of the
same host, a repository that was renamed and forwards) is not seen here.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from star_contracts.fieldpath import Steps, may_meet, parse_path
from star_contracts.promotion import DEFAULT_FIELD, PromotionTarget
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.core.reasons import ConditionReason

SAME_HOST = {"ssh.github.com": "github.com", "www.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
"""Further names of hosts, for SSH over port 443 (docs.github.com, docs.gitlab.com)."""
HEADS = "refs/heads/"
_SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>[^/:]+):(?P<path>.*)")
_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[^@/]*@)?(?P<host>\[[^\]]*\]|[^/:]*)(?::[0-9]*)?(?P<path>/.*|)", re.IGNORECASE
)


@dataclass(frozen=True)
class Place:
    """A target, spelt in one way."""

    repository: str
    """`host/path`, in lower case: on GitHub, GitLab and Gitea paths are equal whatever their case."""
    branch: str
    path: str
    field: Steps | None
    marker: str | None
    kind: str | None
    name: str | None

    def overlaps(self, other: "Place") -> bool:
        """Say whether both may be the same place."""
        same_file = (self.repository, self.branch, self.path) == (other.repository, other.branch, other.path)
        same_document = _may_be(self.kind, other.kind) and _may_be(self.name, other.name)
        if not (same_file and same_document):
            return False
        if self.field is not None and other.field is not None:
            return may_meet(self.field, other.field)
        return _may_be(self.marker, other.marker)

    def __str__(self) -> str:
        return f"{self.repository} {self.branch}:{self.path}"


def place(target: PromotionTarget) -> Place:
    """Return a target, spelt in one way."""
    field = target.field
    if field is None and target.marker is None:
        field = DEFAULT_FIELD
    document = target.document
    return Place(
        repository(target.repository),
        target.branch.removeprefix(HEADS),
        posixpath.normpath(target.path.lstrip("/")),
        parse_path(field) if field is not None else None,
        target.marker,
        document.kind if document is not None else None,
        document.name if document is not None else None,
    )


def repository(url: str) -> str:
    """Return `host/path` of a repository: without protocol, user, port, `.git`, and in lower case."""
    found = _URL.fullmatch(url) or _SCP.fullmatch(url)
    host, path = (found["host"], found["path"]) if found is not None else ("", url)
    host = host.lower().rstrip(".")
    path = posixpath.normpath("/" + unquote(path).lower().strip("/")).lstrip("/")
    path = path.removesuffix(".git").rstrip("/")
    return f"{SAME_HOST.get(host, host)}/{path}"


def _may_be(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def governing(target: PromotionTarget, policies: Sequence[PromotionPolicy]) -> list[PromotionPolicy]:
    """Return the policies that govern a target, by name: one, or none where the place is nobody's."""
    here = place(target)
    found = [one for one in policies if place(one.spec.target).overlaps(here)]
    return sorted(found, key=lambda one: one.metadata.name)


@dataclass(frozen=True)
class Fault:
    """Why a policy cannot be followed."""

    reason: ConditionReason
    message: str


def fault(policy: PromotionPolicy, policies: Sequence[PromotionPolicy]) -> Fault | None:
    """Return what is wrong with a policy among its namespace's, if anything."""
    by_name = {one.metadata.name: one for one in policies}
    name = policy.metadata.name
    here = place(policy.spec.target)
    rivals = sorted(other for other, one in by_name.items() if other != name and place(one.spec.target).overlaps(here))
    if rivals:
        text = f"PromotionPolicy {name} and {' and '.join(rivals)} govern the same place ({here})"
        return Fault(ConditionReason.POLICY_CONFLICT, f"{text}: delete one, or correct its target")
    return _order_fault(name, by_name) or _soak_fault(policy, by_name)


def _order_fault(name: str, by_name: Mapping[str, PromotionPolicy]) -> Fault | None:
    """Return what is wrong with the order of environments before one, if anything."""
    way = [name]
    while (before := by_name[way[-1]].spec.after) is not None:
        if before not in by_name:
            text = f"spec.after of PromotionPolicy {way[-1]} names {before}, which does not exist in this namespace"
            return Fault(ConditionReason.INPUT_MISSING, f"{text}: create it, or correct the name")
        if before in way:
            circle = " after ".join([*way[way.index(before) :], before])
            text = f"environments come after each other in a circle: {circle}"
            return Fault(ConditionReason.ORDER_CYCLE, f"{text}; leave after out of the first one")
        way.append(before)
    return None


def _soak_fault(policy: PromotionPolicy, by_name: Mapping[str, PromotionPolicy]) -> Fault | None:
    soak = policy.spec.requires.soak
    if soak is None:
        return None
    where = soak.environment or policy.spec.after
    field = "spec.requires.soak.environment" if soak.environment else "spec.after"
    source = by_name.get(where or "")
    if source is None:
        text = (
            f"{field} of PromotionPolicy {policy.metadata.name} names {where}, which does not exist in this namespace"
        )
        return Fault(ConditionReason.INPUT_MISSING, f"{text}: create it, or correct the name")
    if source.spec.serves is None:
        text = f"PromotionPolicy {policy.metadata.name} wants the checkpoint to have served in {where}, which has no "
        return Fault(
            ConditionReason.INVALID_REFERENCE,
            f"{text}spec.serves: name there the StarDeployment whose time counts, or leave requires.soak out",
        )
    return None
