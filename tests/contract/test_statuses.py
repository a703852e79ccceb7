"""Statuses as they are written: what one pass has said, the next can take back, whatever the field is."""

import re
from typing import Any

from star_cli.local.controlplane import ControlPlane
from star_operator.api.crd import file_stem
from star_operator.api.meta import Phase, Resource
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.reconcilers.write import write_status
from tests.contract.test_crds import every_kind, minimal
from tests.support.kubectl import Kubectl

NOW = "2026-11-29T03:00:00Z"
WORDS = ("s3://star/x/y", f"sha256:{'1' * 64}", "True", "Succeeded")
"""Of what has a pattern: the first that fits is taken."""


@every_kind
async def test_whatever_a_status_says_can_be_taken_back(
    kubectl: Kubectl, control_plane: ControlPlane, kind: type[Resource[Any, Any]]
) -> None:
    schema = kubectl.get("crd", file_stem(kind.INFO))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    full = type(kind.parse(minimal(kind.INFO.kind)).status).model_validate(everything(schema["properties"]["status"]))
    name, rtype = "says-all", STAR_TYPES[kind.INFO.kind]
    kubectl.apply({**minimal(kind.INFO.kind), "metadata": {"name": name}})
    namespace = "" if not rtype.namespaced else "default"
    cluster = await Cluster.connect(str(control_plane.kubeconfig))
    try:
        body = await cluster.get(rtype, namespace, name)
        assert body is not None
        await write_status(cluster, body, full, NOW)
        body = await cluster.get(rtype, namespace, name)
        assert body is not None
        assert kind.parse(body).status == full
        emptied = full.model_copy(update={"steps": tuple(one.model_copy(update={"metrics": {}}) for one in full.steps)})
        for status in (emptied, type(full)(phase=Phase.RUNNING)):
            await write_status(cluster, body, status, NOW)
            body = await cluster.get(rtype, namespace, name)
            assert body is not None
            assert kind.parse(body).status == status
    finally:
        await cluster.close()


def everything(schema: dict[str, Any]) -> Any:
    """A value of a schema that has every field, one entry in each list and one in each map."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object" if "additionalProperties" in schema:
            return {"a": everything(schema["additionalProperties"])}
        case "object":
            return {field: everything(of) for field, of in schema["properties"].items()}
        case "array":
            return [everything(schema["items"])]
        case "string":
            return next(word for word in (*WORDS, "a") if re.search(schema.get("pattern", ""), word))
        case "boolean":
            return True
        case _:
            return schema.get("minimum", 1)
