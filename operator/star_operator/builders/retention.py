"""The Job that sweeps a namespace's part of the store: one at a time, of one name, in the namespace itself.

It is made with the namespace's own credentials. What it is told lies in a ConfigMap that outlives it: what it marked
stands there until the next one.
"""

from star_contracts.base import canonical_json
from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_contracts.retention import SWEEP_SPEC_PATH, SweepSpec
from star_operator.api.common import Compute
from star_operator.builders.job import failure_rules
from star_operator.builders.names import common_labels
from star_operator.builders.pod import Container, PodPlan, ca_files, pod_template
from star_operator.core.labels import RETENTION, SWEEP, resource_labels
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings

NAME = "star-retention-sweep"
SWEEP_FILE = SWEEP_SPEC_PATH.rpartition("/")[2]
DEADLINE_SECONDS = 6 * 3600
GRACE_SECONDS = 60
TRIES = 3
DEFAULT_POOL = "cpu"


def sweep_objects(namespace: str, spec: SweepSpec, settings: Settings) -> list[KubeObject]:
    """Return ConfigMap and Job, in the order to apply them."""
    found = common_labels(RETENTION) | resource_labels(RETENTION, SWEEP) | {LABEL_STEP: SWEEP, LABEL_ATTEMPT: "1"}
    meta: KubeObject = {"namespace": namespace, "name": NAME, "labels": found}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "data": {SWEEP_FILE: canonical_json(spec.to_json_dict()).decode(), **ca_files(settings)},
    }
    pool = DEFAULT_POOL if DEFAULT_POOL in settings.pools else min(settings.pools)
    env = {"STAR_SWEEP_SPEC": SWEEP_SPEC_PATH}
    plan = PodPlan(
        main=Container(role="jobs", command=("star-job",), args=("sweep",), env=env, store_access=True),
        compute=Compute(pool=pool),
        labels=found,
        config_map=NAME,
        pool_field="pools in the chart's values",
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS,
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": TRIES,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules()},
            "template": pod_template(plan, settings),
        },
    }
    return [config_map, compact(job)]
