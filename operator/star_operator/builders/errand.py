"""A small Job of the jobs image that a resource needs done in its namespace, with what it is told in a ConfigMap.

Unlike a step it makes nothing that the resource is for, holds no queue and no GPU, and waits for no server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP, SPEC_DIR
from star_operator.api.common import Compute, PodTemplate, SecretKeyRef
from star_operator.builders.job import failure_rules
from star_operator.builders.lookup import RESOURCES
from star_operator.builders.names import child_name, labels, owner_reference
from star_operator.builders.pod import Container, PodPlan, ca_files, pod_template
from star_operator.builders.step import Owner
from star_operator.core.labels import ERRAND_ANNOTATION, resource_labels
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings

GRACE_SECONDS = 60
DEFAULT_POOL = "cpu"


@dataclass(frozen=True)
class Errand:
    """What is to be done."""

    command: str
    """Argument of `star-job`; the Job's step is called the same."""
    key: str
    """Makes its name: another key is another Job."""
    text: str
    """What it is told, a file `/etc/star/<command>.json`."""
    tries: int
    """Pods that may fail with a retryable error before it is given up."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    optional_keys: Mapping[str, SecretKeyRef] = field(default_factory=dict)
    """Secrets that appear as files `key_path(name)` where they are there."""
    ttl_seconds: int | None = None
    """How long the Job stays after its end; for ever by default."""
    pod_template: PodTemplate | None = None


def errand_name(owner: Owner, command: str, key: str) -> str:
    """Return the name of an errand's Job and ConfigMap."""
    return child_name(owner, None, f"{command}-{key.removeprefix('sha256:')[:8]}")


def errand_objects(owner: Owner, errand: Errand, settings: Settings) -> list[KubeObject]:
    """Return ConfigMap and Job, in the order to apply them."""
    name = errand_name(owner, errand.command, errand.key)
    found = labels(owner, errand.command, 1) | resource_labels(owner.kind, owner.name)
    meta: KubeObject = {
        "namespace": owner.namespace,
        "name": name,
        "labels": found | {LABEL_STEP: errand.command, LABEL_ATTEMPT: "1"},
        "ownerReferences": [owner_reference(owner)],
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "data": {f"{errand.command}.json": errand.text, **ca_files(settings)},
    }
    pool = DEFAULT_POOL if DEFAULT_POOL in settings.pools else min(settings.pools)
    env = {f"STAR_{errand.command.upper()}_SPEC": f"{SPEC_DIR}/{errand.command}.json"}
    main = Container(role="jobs", command=("star-job",), args=(errand.command,), env=env, store_access=True)
    plan = PodPlan(
        main=main,
        compute=Compute(pool=pool, resources=RESOURCES, pod_template=errand.pod_template),
        labels=meta["labels"],
        config_map=name,
        pool_field="pools in the chart's values",
        optional_keys=errand.optional_keys,
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS,
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta | {"annotations": {ERRAND_ANNOTATION: errand.key, **errand.annotations}},
        "spec": {
            "backoffLimit": errand.tries,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules()},
            "ttlSecondsAfterFinished": errand.ttl_seconds,
            "template": pod_template(plan, settings),
        },
    }
    return [compact(config_map), compact(job)]
