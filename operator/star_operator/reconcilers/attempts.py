"""What is left of an attempt whose Jobs and pods are gone: what its pods were told, and the names they had."""

from star_operator.builders.lookup import look_up_name
from star_operator.builders.names import child_name
from star_operator.builders.step import Owner
from star_operator.core.objects import is_owned
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, SERVICE


async def forget_attempt(cluster: Cluster, owner: Owner, attempt: int, step: str, *, group: bool) -> None:
    """Delete the ConfigMaps, and for a group the Service, of an attempt at a step and of the look-up before it.

    Another attempt's ConfigMap has to be there: retention finds by it what was written by all of them.
    """
    types = (CONFIG_MAP, SERVICE) if group else (CONFIG_MAP,)
    for name in (child_name(owner, attempt, role) for role in (step, look_up_name(step))):
        for rtype in types:
            body = await cluster.get(rtype, owner.namespace, name)
            if body is not None and is_owned(body, owner.uid):
                await cluster.delete(rtype, owner.namespace, name, uid=body["metadata"]["uid"])
