"""Builds: what a server's pods are made of, and which part of that follows from its resource.

A resource asks for a model, a pool, flags, resources (`ServerPlan.asked`). All else follows from the operator: its own
code, and the chart's values (images, pools, store, proxies, certificate authorities). Each Deployment and StatefulSet
of a server says both as digests, so that another operator can tell what a person has changed from what an upgrade has.
"""

from collections.abc import Sequence
from typing import Any

from star_contracts.base import value_hash
from star_operator.core.labels import ASKED_ANNOTATION, BUILD_ANNOTATION
from star_operator.core.objects import KubeObject

WORKLOADS = ("Deployment", "StatefulSet")


def stamped(objects: Sequence[KubeObject], asked: str) -> list[KubeObject]:
    """Return the objects of a server, its workloads with what was asked for and their build.

    How many copies there are is no part of it: to scale is not to make anew.
    """
    files = [_content(obj) for obj in objects if obj["kind"] not in WORKLOADS]
    return [_with_build(obj, asked, files) if obj["kind"] in WORKLOADS else obj for obj in objects]


def kept(live: KubeObject, wanted: KubeObject) -> KubeObject:
    """Return a workload that stays as it is, but for its number of copies and its labels.

    One that an earlier version made does not say what was asked for: it is taken to be what is asked for now.
    """
    said = live["metadata"].get("annotations") or {}
    asked = said.get(ASKED_ANNOTATION, wanted["metadata"]["annotations"][ASKED_ANNOTATION])
    build = {BUILD_ANNOTATION: said[BUILD_ANNOTATION]} if BUILD_ANNOTATION in said else {}
    metadata = {**wanted["metadata"], "annotations": {ASKED_ANNOTATION: asked, **build}}
    spec = {**_without_nulls(live["spec"]), "replicas": wanted["spec"]["replicas"]}
    return {**wanted, "metadata": metadata, "spec": spec}


def _with_build(workload: KubeObject, asked: str, files: list[KubeObject]) -> KubeObject:
    build = value_hash([*files, _content(workload)])
    annotations = {ASKED_ANNOTATION: asked, BUILD_ANNOTATION: build.removeprefix("sha256:")}
    return {**workload, "metadata": {**workload["metadata"], "annotations": annotations}}


def _content(obj: KubeObject) -> KubeObject:
    spec = {key: value for key, value in obj.get("spec", {}).items() if key != "replicas"}
    return {"kind": obj["kind"], "spec": spec, "data": obj.get("data", {})}


def _without_nulls(value: Any) -> Any:
    """Drop what the API server shows as null, like a template's creationTimestamp."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
