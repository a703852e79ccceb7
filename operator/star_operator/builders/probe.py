"""The Job that looks which version of its raw files a tenant's source is, before a run is made of them.

It runs in the tenant's namespace with the tenant's credentials, lists the prefix, and answers in its termination
message. Its ConfigMap is owned by the Job, which goes by itself an hour after its end, whoever died meanwhile.
"""

from dataclasses import dataclass
from typing import Any

from star_contracts.base import canonical_json
from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_contracts.probe import PROBE_SPEC_PATH, ProbeSpec
from star_operator.api.recdataset import RecDatasetSpec
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.builders.job import failure_rules
from star_operator.builders.names import common_labels
from star_operator.builders.pod import Container, PodPlan, ca_files, pod_template
from star_operator.builders.retrainschedule import owners, run_name
from star_operator.core.labels import LABEL_SCHEDULE, PROBE, label_value, resource_labels
from star_operator.core.objects import KubeObject, compact
from star_operator.core.settings import Settings

PROBE_FILE = PROBE_SPEC_PATH.rpartition("/")[2]
DEADLINE_SECONDS = 900
GRACE_SECONDS = 30
KEPT_SECONDS = 3600
TRIES = 3


@dataclass(frozen=True)
class Probe:
    """A look at one tenant's source for one time of a schedule."""

    schedule: RetrainSchedule
    namespace: str
    tick: int
    template: dict[str, Any]
    """The run's `dataset.template`."""

    @property
    def name(self) -> str:
        """Return the Job's name."""
        return f"{run_name(self.schedule.metadata.name, self.tick)}-probe"

    def meta(self) -> KubeObject:
        """Return the metadata of its objects, but for their owners."""
        found = common_labels(PROBE) | resource_labels(PROBE, self.name) | {LABEL_STEP: PROBE, LABEL_ATTEMPT: "1"}
        found |= {LABEL_SCHEDULE: label_value(self.schedule.metadata.name)}
        return {"namespace": self.namespace, "name": self.name, "labels": found}


def probe_job(probe: Probe, settings: Settings) -> KubeObject:
    """Return the Job.

    It takes the pool and the pods' labels and identity of the preparation, and neither its size nor its queue: a
    listing needs no more than the defaults. Raises InvalidSpec when the pool is unknown or has no images.
    """
    asked = RecDatasetSpec.model_validate(probe.template).compute
    compute = type(asked)(pool=asked.pool, pod_template=asked.pod_template)
    env = {"STAR_PROBE_SPEC": PROBE_SPEC_PATH}
    plan = PodPlan(
        main=Container(role="jobs", command=("star-job",), args=("probe-source",), env=env, store_access=True),
        compute=compute,
        labels=probe.meta()["labels"],
        config_map=probe.name,
        pool_field="spec.pipeline.dataset.template.compute.pool",
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS,
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": probe.meta() | {"ownerReferences": owners(probe.schedule)},
        "spec": {
            "backoffLimit": TRIES,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": failure_rules()},
            "template": pod_template(plan, settings),
        },
    }
    found: KubeObject = compact(job)
    return found


def probe_config(probe: Probe, job: KubeObject, settings: Settings) -> KubeObject:
    """Return the ConfigMap of a Job that is there: what it is told, owned by it."""
    source = RecDatasetSpec.model_validate(probe.template).source
    spec = ProbeSpec(store=settings.store.connection, format=source.format, source=source.uri)
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": probe.name, "uid": job["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": probe.meta() | {"ownerReferences": [owner]},
        "data": {PROBE_FILE: canonical_json(spec.to_json_dict()).decode(), **ca_files(settings)},
    }
