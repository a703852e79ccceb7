"""Whether a namespace has the store's credentials: looked at before pods are made that could only wait for them."""

from star_operator.core.errors import Waiting
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import STORE_KEYS
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import SECRET

SECRET_REASONS = (ConditionReason.SECRET_MISSING, ConditionReason.SECRET_INCOMPLETE)


async def require_store_secret(cluster: Cluster, namespace: str, name: str) -> None:
    """Raise Waiting unless the Secret is there with both keys, none of them empty; no name needs no Secret."""
    if not name:
        return
    secret = await cluster.get(SECRET, namespace, name)
    if secret is None:
        wanted = " and ".join(STORE_KEYS)
        text = f"namespace {namespace} has no Secret {name} with the store's credentials; create it with {wanted}"
        raise Waiting(ConditionReason.SECRET_MISSING, text)
    data = secret.get("data", {})
    missing = [key for key in STORE_KEYS if not data.get(key)]
    if missing:
        text = f"Secret {name} in namespace {namespace} has no {' and no '.join(missing)}, or an empty one"
        raise Waiting(ConditionReason.SECRET_INCOMPLETE, f"{text}; add what is missing")
