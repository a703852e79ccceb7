"""Labels that tie children to their resource: written by the builders, selected by whoever observes."""

from collections.abc import Mapping
from typing import Any

from star_contracts.base import value_hash
from star_contracts.names import GROUP, LABEL_KIND, LABEL_NAME

OURS = {"app.kubernetes.io/managed-by": "star-operator"}
"""On everything that this operator makes."""
LABEL_SERVER = f"{GROUP}/server"
"""Name of the vLLM server a pod belongs to."""
LABEL_GROUP = f"{GROUP}/group"
"""Which replica of a multi-node server a pod works for."""
LABEL_COMPONENT = f"{GROUP}/component"
"""What a pod does: one of the components below."""
QUEUE_ANNOTATION = f"{GROUP}/queue"
"""The queue that a Job was made for, or nothing. Its label may be one that Kueue gives to Jobs without a queue."""
PRIORITY_ANNOTATION = f"{GROUP}/priority"
"""The priority class that a Job was made for, or nothing. Its pods' may be one that a policy gives them."""
LABEL_PIPELINE = f"{GROUP}/pipeline"
"""Name of the pipeline that made a resource, or moved it last."""
LABEL_SERIES = f"{GROUP}/series"
"""The series that this pipeline is a run of."""
LABEL_STAGE = f"{GROUP}/stage"
"""The stage of the chain that a resource stands for."""
LABEL_VARIANT = f"{GROUP}/variant"
"""The variant that a resource belongs to alone."""
TRY_ANNOTATION = f"{GROUP}/try"
"""Which make of its stage's resource this is."""
RETRY_ANNOTATION = f"{GROUP}/retry"
"""On a pipeline: the stage to begin anew from. Taken off once it is begun."""
LABEL_SCHEDULE = f"{GROUP}/schedule"
"""Name of the RetrainSchedule that started a pipeline."""
TICK_ANNOTATION = f"{GROUP}/tick"
"""On a run: the time of the schedule that it stands for, RFC 3339, UTC."""
RETRAIN_LABEL = f"{GROUP}/retrain"
"""On a namespace: `"true"` lets schedules start runs there."""
PRIORITY_LABEL = f"{GROUP}/retrain-priority"
"""On a namespace: 1 to 10, and 1 where it is not there: how fast its claim on GPUs grows while it waits."""
RUN_NOW_ANNOTATION = f"{GROUP}/run-now"
"""On a schedule: namespaces, or `*`. Taken off once it is taken down."""
BACKFILL_ANNOTATION = f"{GROUP}/backfill"
"""On a schedule: `<from>/<to>`, both RFC 3339. Taken off once it is taken down."""
PIN_ANNOTATION = f"{GROUP}/pin"
"""On any resource: why retention must keep it, and what it refers to."""
SWEPT_ANNOTATION = f"{GROUP}/swept"
"""On the ConfigMap of a sweep: how it ended, and when the next one is due."""
PROBE = "source-probe"
"""Kind that labels what looks at a source, and its step."""
ATTEST_ANNOTATION = f"{GROUP}/attest"
"""On a Checkpoint: any text; another one has its proof made anew, e.g. when there is another signing key."""
PROOF_ANNOTATION = f"{GROUP}/proof"
"""On a Job that verifies a checkpoint: digest of the newest proof when it was made."""
ERRAND_ANNOTATION = f"{GROUP}/errand"
"""On a small Job: digest of what it is told."""
ANSWER_ANNOTATION = f"{GROUP}/answer"
"""On a small Job: what `main` of its pod has said, and when, where a container that others added kept the pod going."""
ATTEST, VERIFY = "attest", "verify"
"""Steps of the Jobs that make proofs, and that check them."""
RETENTION, SWEEP = "retention", "sweep"
"""Kind and name that label what retention makes in a namespace."""
OBSERVERS_ANNOTATION = f"{GROUP}/observers"
"""On a StarDeployment: namespaces, with commas between them, whose PromotionPolicies may look at what it has served."""
SUPERSEDED_ANNOTATION = f"{GROUP}/superseded-by"
"""On a Promotion that was cancelled because a later one has succeeded: that one's name."""
ASKED_ANNOTATION = f"{GROUP}/asked"
"""On a server's workload: digest of what its resource asks for, but for how many."""
BUILD_ANNOTATION = f"{GROUP}/build"
"""On a server's workload: digest of all that it is made of, which follows from the operator and its settings, too."""
UPDATE_ANNOTATION = f"{GROUP}/update-servers"
"""On a StarDeployment: `now` moves its servers to the present build without waiting for a turn, `never` keeps them."""
EGRESS_LABEL, INSIDE, OUTSIDE = f"{GROUP}/egress", "inside", "outside"
"""On a pod whose ways policies say: whether it goes further than to the store, the operator and the servers of its
namespace. Pods of versions without policies do not have it, and are left alone by them."""
LEADER = "vllm"
"""Answers requests."""
WORKER = "vllm-worker"
"""Lends its GPUs to the leader of its group."""
GATEWAY = "gateway"

MAX_LABEL = 63
"""Characters of a label value (Kubernetes, `Labels and Selectors`); resource names may have 253."""


def label_value(text: str) -> str:
    """Return the text as a label value: itself when it fits, else its beginning and a hash that keeps it unique."""
    if len(text) <= MAX_LABEL:
        return text
    return f"{text[: MAX_LABEL - 9].rstrip('-.')}-{value_hash(text).removeprefix('sha256:')[:8]}"


def uses_label(server: str) -> str:
    """Return the label of pods that use a shared server."""
    return f"{GROUP}/uses-{server}"


def resource_labels(kind: str, name: str) -> dict[str, str]:
    """Return the labels that select everything made for one resource."""
    return {LABEL_KIND: kind.lower(), LABEL_NAME: label_value(name)}


def observers(body: Mapping[str, Any]) -> set[str]:
    """Return the other namespaces that a StarDeployment, as the API server has it, lets look at what it has served."""
    named: str = (body["metadata"].get("annotations") or {}).get(OBSERVERS_ANNOTATION, "")
    return {one.strip() for one in named.split(",")} - {""}
