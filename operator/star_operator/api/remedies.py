"""What each reason of a condition means and what to do about it: all of them, in one table.

A reason without an entry fails a unit test; docs/troubleshooting.md is generated from here (`api/troubleshooting.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from star_contracts.errors import Reason, WarningReason
from star_operator.api.meta import Phase
from star_operator.core.reasons import AnyReason, ConditionReason


@dataclass(frozen=True)
class Remedy:
    """An entry. All three columns are for people."""

    phases: tuple[Phase, ...]
    """With which phases it is seen."""
    cause: str
    remedy: str


@dataclass(frozen=True)
class Section:
    """Reasons of one sort."""

    title: str
    introduction: str
    remedies: Mapping[AnyReason, Remedy]


_WAITS = (Phase.WAITING,)
_RUNS = (Phase.RUNNING,)
_FAILED = (Phase.FAILED,)
_ENDED_WELL = (Phase.SUCCEEDED,)
_TRIED_AGAIN = (Phase.WAITING, Phase.FAILED)
"""Waiting for the next attempt, and failed after the last one."""

WELL = Section(
    "Nothing is wrong",
    "These tell how far it is. Nothing has to be done.",
    {
        ConditionReason.STARTING: Remedy(_RUNS, "The step's Job was made just now.", "Wait for its pods."),
        ConditionReason.RUNNING: Remedy(
            _RUNS, "Pods work on it.", "See `status.progress`; `kubectl logs` of the pods says more."
        ),
        ConditionReason.STEP_DONE: Remedy(_RUNS, "A step has ended well, the next one follows.", "Wait."),
        ConditionReason.SUCCEEDED: Remedy(
            (Phase.SUCCEEDED,), "`status.artifact` is what it made.", "Use it by its name or by its digest."
        ),
        ConditionReason.SUSPENDED: Remedy(
            (Phase.SUSPENDED,), "`spec.suspend` is true.", "Set it to false to go on; nothing that was done is lost."
        ),
        ConditionReason.QUEUED: Remedy(
            (Phase.QUEUED,),
            "The Job waits in the queue that `spec.compute.queueName` names.",
            "Wait, or give it another queue or priority: both may change while it is queued.",
        ),
        ConditionReason.SERVER_STARTING: Remedy(
            _RUNS,
            "The vLLM server loads its model, or a container of it ended and is started again.",
            "Wait; if the message tells of a failing container, read that pod's log.",
        ),
        ConditionReason.GATEWAY_STARTING: Remedy(
            _RUNS, "The servers answer, the gateway not yet.", "Wait; if it stays, read the gateway's log."
        ),
        ConditionReason.GATE_RUNNING: Remedy(
            _RUNS, "The Evaluation that the gates ask for has not ended.", "Look at the Evaluation the message names."
        ),
        ConditionReason.ROLLING_OUT: Remedy(
            _RUNS, "The new revision has a part of the users (`spec.rollout`).", "Wait for the last step."
        ),
        ConditionReason.DEGRADED: Remedy(
            (Phase.DEGRADED,),
            "It serves, and not all servers or gateways that are wanted are ready; the message says how many are.",
            "Wait while they start, as after `server.replicas` was raised; else mend what the message tells of them.",
        ),
        ConditionReason.UPDATE_WAITING: Remedy(
            (Phase.READY,),
            "After an upgrade its servers would be of other images or settings; they go on until it is their turn.",
            "Wait, or annotate it `star.recsys.dev/update-servers=now`.",
        ),
        ConditionReason.UPDATE_HELD: Remedy(
            (Phase.READY, Phase.DEGRADED, Phase.RUNNING),
            "As before, and it is not in line: the message says why.",
            "Annotate it `star.recsys.dev/update-servers=now`, or leave it to the next checkpoint's servers.",
        ),
        ConditionReason.UPDATING: Remedy(
            (Phase.READY, Phase.DEGRADED, Phase.RUNNING),
            "Its servers are replaced by those of the present build, one by one.",
            "Wait. If a new one does not come up the others go on, and no other deployment moves: mend the build.",
        ),
        ConditionReason.SERVING: Remedy((Phase.READY,), "The deployment serves as asked.", "Use `status.url`."),
        ConditionReason.SCALED_TO_ZERO: Remedy(
            (Phase.READY,),
            "`server.replicas` is 0: a request waits while a server is started for it.",
            "Let an autoscaler raise `server.replicas`, or raise it yourself.",
        ),
        ConditionReason.READY: Remedy((Phase.READY,), "The Checkpoint can be used.", "Name it where it is wanted."),
        ConditionReason.STAGES_DONE: Remedy(_RUNS, "All stages of the pipeline have ended well.", "Wait."),
        ConditionReason.SELECTED: Remedy(
            _RUNS, "The variant with the best figure goes on; the message has all figures.", "Wait."
        ),
        ConditionReason.DEPLOYING: Remedy(
            _RUNS,
            "The StarDeployment was told to serve what came out.",
            "See its own conditions: its gates come first.",
        ),
        ConditionReason.ON_SCHEDULE: Remedy(
            (Phase.READY,), "The schedule starts runs when they are due.", "See `status.tenants` for each namespace."
        ),
        ConditionReason.STARTED: Remedy(
            _RUNS, "A schedule started a run in this namespace.", "Look at the StarPipeline."
        ),
        ConditionReason.NOT_DUE: Remedy(
            _WAITS,
            "Tenants are spread over `spec.jitterSeconds`; the message says when it is this one's turn.",
            "Wait.",
        ),
        ConditionReason.NOTHING_NEW: Remedy(
            _ENDED_WELL, "The source has the same inventory as at the last run (trigger `NewData`).", "Nothing."
        ),
        ConditionReason.NOT_DRIFTED: Remedy(
            _ENDED_WELL, "The metric has not been under its threshold for long enough (trigger `Drift`).", "Nothing."
        ),
        ConditionReason.ATTESTED: Remedy(
            (Phase.READY,),
            "The checkpoint's card, provenance and verdicts are beside it in the store (condition `Attested`).",
            "Read the card: `status.proofs.card`; [proofs.md](proofs.md) says how.",
        ),
        ConditionReason.ATTESTING: Remedy(
            (Phase.READY,),
            "A Job writes the checkpoint's card and provenance (condition `Attested`).",
            "Wait; the checkpoint can be used meanwhile.",
        ),
        ConditionReason.VERIFYING: Remedy(
            _RUNS,
            "A Job holds the checkpoint's signatures and its Evaluation's report against their digests.",
            "Wait; the message tells of a pod that does not start.",
        ),
        ConditionReason.GOVERNING: Remedy(
            (Phase.READY,),
            "A PromotionPolicy governs every Promotion to its place.",
            "See `status.promoted`, and the Promotions for who waits.",
        ),
        ConditionReason.APPROVED: Remedy(
            _WAITS, "Somebody approved a Promotion's digest.", "See `status.approvals` for who and when."
        ),
        ConditionReason.SOAKING: Remedy(
            _WAITS,
            "The checkpoint has not served for long enough in the environment that the policy names.",
            "Wait until the time that the message tells. One that does not serve there now gains no time.",
        ),
        ConditionReason.COMMITTING: Remedy(
            _RUNS, "All that is required holds, and a Job makes the commit.", "Wait; its pod's log says more."
        ),
        ConditionReason.PULL_REQUEST_OPEN: Remedy(
            _WAITS,
            "The pull request waits for somebody to merge it.",
            "Review and merge it, close it, or set `spec.cancel`.",
        ),
        ConditionReason.CLOSING_PULL_REQUEST: Remedy(
            _RUNS, "`spec.cancel` is true and the pull request is being closed.", "Wait."
        ),
        ConditionReason.PROMOTED: Remedy(
            _ENDED_WELL, "The digest stands at the place.", "See `status.commit` and `status.pullRequest`."
        ),
        ConditionReason.CANCELLING: Remedy(_RUNS, "`spec.cancel` is true and stages are being ended.", "Wait."),
    },
)

WAITS = Section(
    "It waits",
    "Nothing has failed. It goes on by itself as soon as what it waits for is there.",
    {
        ConditionReason.QUEUE_MISSING: Remedy(
            (Phase.QUEUED,),
            "Nobody admits the Job: there is no such LocalQueue, or no Kueue that looks after this namespace.",
            "Correct `spec.compute.queueName` or leave it out: it may change while the run waits. Or create the queue.",
        ),
        ConditionReason.INPUT_MISSING: Remedy(
            _WAITS, "A field names a resource that does not exist in this namespace.", "Create it, or correct the name."
        ),
        ConditionReason.INPUT_NOT_READY: Remedy(
            _WAITS, "A resource that it needs has not ended yet.", "Wait, or look at the resource the message names."
        ),
        ConditionReason.INPUT_FAILED: Remedy(
            _WAITS,
            "A resource that it needs has failed; the message has that one's own sentence.",
            "Mend and re-create that resource under the same name, or name another one.",
        ),
        ConditionReason.SECRET_MISSING: Remedy(
            _WAITS,
            "A Secret that the spec or the chart's values name is not in this namespace.",
            "Create it with the keys the message names, or correct the name.",
        ),
        ConditionReason.SECRET_INCOMPLETE: Remedy(
            _WAITS, "The Secret is there, but lacks a key or has an empty one.", "Add the key to the Secret."
        ),
        ConditionReason.HUB_UNREACHABLE: Remedy(
            _WAITS,
            "The operator asks the hub for the commit that a model's name stands for, and gets no answer.",
            "Open the way to the hub (`HF_ENDPOINT` of the pool, `proxy`, `caBundle`), or name the commit in the spec.",
        ),
        ConditionReason.UNSCHEDULABLE: Remedy(
            _WAITS,
            "No node has room for the pod; the message has the scheduler's words.",
            "Lower `spec.compute.resources` or `gpusPerNode`, choose another pool, or add nodes.",
        ),
        ConditionReason.POD_NOT_STARTED: Remedy(
            _WAITS,
            "The kubelet cannot start the pod: its image, a volume, or its configuration; the message has its words.",
            "Mend what the message names: the image's reference and pull secrets are in the chart's values.",
        ),
        ConditionReason.PODS_REFUSED: Remedy(
            _WAITS,
            "The API server refuses the pods: a ResourceQuota, a LimitRange, Pod Security, or an admission webhook.",
            "Set what the message asks for in `compute.resources`, or have the namespace's limits changed.",
        ),
        ConditionReason.QUOTA_EXCEEDED: Remedy(
            _WAITS,
            "A ResourceQuota of the namespace counts objects, and has none left for what the operator has to make.",
            "Delete what is not needed, or have the quota raised: it goes on by itself.",
        ),
        ConditionReason.RIGHT_MISSING: Remedy(
            _WAITS,
            "The operator's service account has not the right that the message names. No resource can mend that.",
            "The platform team gives it the chart's roles; with `watchNamespaces`, in this namespace as well.",
        ),
        ConditionReason.REFUSED: Remedy(
            _WAITS,
            "The API server forbids what the operator has to do: a policy, or a webhook that refuses or is away.",
            "Have the policy changed, or the webhook mended; the message has its sentence.",
        ),
        ConditionReason.INVALID_SPEC: Remedy(
            _WAITS,
            "The resource does not fit the schema of this operator's version.",
            "Apply the CRDs of this version, then the resource again.",
        ),
        ConditionReason.WINDOW_CLOSED: Remedy(
            _WAITS,
            "A run is due, and none of the schedule's `spec.windows` is open.",
            "Wait, or start it now with the annotation `star.recsys.dev/run-now` on the schedule.",
        ),
        ConditionReason.STILL_RUNNING: Remedy(
            (Phase.RUNNING,),
            "A run is due, and the one before has not ended (`spec.concurrencyPolicy` Forbid).",
            "Wait; where it always comes to this, run less often or set Allow or Replace.",
        ),
        ConditionReason.REPLACING: Remedy(
            (Phase.RUNNING,), "The run before is cancelled to make room (`spec.concurrencyPolicy` Replace).", "Wait."
        ),
        ConditionReason.RUN_LIMIT: Remedy(
            _WAITS, "It is the next one, and `spec.maxConcurrentRuns` runs are there.", "Wait, or raise the limit."
        ),
        ConditionReason.GPU_BUDGET: Remedy(
            _WAITS, "It is the next one, and too many of `spec.gpuBudget` are held.", "Wait, or raise the budget."
        ),
        ConditionReason.IN_LINE: Remedy(
            _WAITS,
            "Others have waited longer, or have a higher priority; the message says how many.",
            "Wait; the namespace label `star.recsys.dev/retrain-priority` (1 to 10) lets a claim age faster.",
        ),
        ConditionReason.PROBING: Remedy(
            _WAITS, "Whether the schedule's trigger is met is being looked at.", "Wait; the message says what for."
        ),
        ConditionReason.DEADLINE_MISSED: Remedy(
            _WAITS,
            "A run had not started within `spec.startingDeadlineSeconds` of its time.",
            "Wait for the next time, or raise the deadline, the budget or the number of runs.",
        ),
        ConditionReason.FROZEN: Remedy(
            _WAITS,
            "`spec.freezes` of the PromotionPolicy covers this time.",
            "Wait until the time that the message tells, or shorten the freeze.",
        ),
        ConditionReason.HELD: Remedy(
            _WAITS,
            "The environment is held at another digest (`spec.hold` of the PromotionPolicy).",
            "`starctl release ENVIRONMENT`, once the reason is gone. No override passes a hold.",
        ),
        ConditionReason.NOT_IN_ORDER: Remedy(
            _WAITS,
            "The digest has not arrived in the environment that comes before this one (`spec.after`).",
            "Promote it there first.",
        ),
        ConditionReason.NOT_MEASURED: Remedy(
            _WAITS,
            "The policy requires a figure, or the age of the data, and nothing has measured this digest yet.",
            "Create an Evaluation whose `spec.llm.server.model` has this digest, or wait for the one that runs.",
        ),
        ConditionReason.AWAITING_APPROVAL: Remedy(
            _WAITS,
            "The policy requires more approvals of this digest.",
            "`starctl approve PROMOTION` by somebody with the verb `approve` on promotions.",
        ),
        ConditionReason.APPROVALS_UNGUARDED: Remedy(
            _WAITS,
            "The ValidatingAdmissionPolicy about approvals, or its binding, is missing or was changed: anybody could "
            "write anybody's name.",
            "Apply both as the chart has them.",
        ),
        ConditionReason.NOT_OBSERVABLE: Remedy(
            _WAITS,
            "`spec.serves` names a StarDeployment of another namespace that does not let this one look.",
            "Add this namespace to its annotation `star.recsys.dev/observers`.",
        ),
        ConditionReason.IN_FLIGHT: Remedy(
            _WAITS,
            "Another Promotion to the same place has begun and not ended.",
            "Wait; merge or close its pull request, or cancel it.",
        ),
        ConditionReason.NAMESPACE_TERMINATING: Remedy(
            _WAITS, "The namespace is being deleted.", "Nothing: what runs in it is removed with it."
        ),
        ConditionReason.NAMESAKE_LEFT: Remedy(
            _WAITS,
            "Jobs or pods of an earlier resource of the same name are there; its work is not taken for this one's.",
            "Wait: they are being deleted. If they stay, look for a finalizer on them.",
        ),
    },
)

REFUSED = Section(
    "The spec cannot be acted on",
    "The operator refuses it before anything runs. A run keeps its spec: correct it and create it anew.",
    {
        ConditionReason.INVALID_REFERENCE: Remedy(
            _FAILED, "A field names the resource itself.", "Name another one, or leave the field out."
        ),
        ConditionReason.MODEL_NOT_FOUND: Remedy(
            _FAILED,
            "The hub has no such model or revision, or shows it to nobody without a token.",
            "Correct the name; of a private model name the commit.",
        ),
        ConditionReason.IMPOSSIBLE_SCHEDULE: Remedy(
            _WAITS, "`spec.schedule` is no cron expression, or a day that never comes.", "Correct it; it may change."
        ),
        ConditionReason.UNKNOWN_TIME_ZONE: Remedy(
            _WAITS, "`spec.timeZone` is not in the operator's IANA data base.", "Write one like Europe/Berlin."
        ),
        ConditionReason.BUDGET_TOO_SMALL: Remedy(
            _WAITS,
            "One run needs more GPUs at once than `spec.gpuBudget`.",
            "Raise the budget, or lower replicas, nodes or variants of the template or the overrides.",
        ),
        ConditionReason.OVERRIDES_INVALID: Remedy(
            _WAITS,
            "The tenant's ConfigMap does not fit the schedule's pipeline, or the API server refuses the run.",
            "Correct the key `pipeline.yaml`; it is read again within the operator's resync (5 minutes).",
        ),
        ConditionReason.INVALID_REQUEST: Remedy(
            _WAITS, "An annotation asks for a run now, or a back-fill, that cannot be.", "Annotate it anew, corrected."
        ),
        ConditionReason.TOO_MANY_TENANTS: Remedy(
            (Phase.DEGRADED,),
            "More namespaces are selected than one schedule can keep a row of; the last by name are left out.",
            "Divide them among schedules by `spec.namespaceSelector`.",
        ),
        ConditionReason.POLICY_CONFLICT: Remedy(
            (Phase.WAITING, Phase.DEGRADED),
            "Two PromotionPolicies govern the same place, however they spell it.",
            "Delete one of them, or correct its `spec.target`.",
        ),
        ConditionReason.ORDER_CYCLE: Remedy(
            (Phase.WAITING, Phase.DEGRADED),
            "Environments come after each other in a circle (`spec.after`).",
            "Leave `after` out of the first one.",
        ),
        ConditionReason.NOT_GOVERNED: Remedy(
            _WAITS,
            "`spec.environment` names a PromotionPolicy that governs another place.",
            "Create a Promotion with the policy's target, or without `environment`.",
        ),
        ConditionReason.DIGEST_MISMATCH: Remedy(
            _FAILED,
            "A field pins a digest, and the resource it names made another one.",
            "Correct the digest or the name.",
        ),
        ConditionReason.NOT_PINNED: Remedy(
            _FAILED, "A model of a hub has no digest that could be promoted.", "Name a Checkpoint, or a URI and digest."
        ),
        ConditionReason.NO_GATES: Remedy(_FAILED, "There are no gates to measure.", "Set `spec.gates`."),
        ConditionReason.UNKNOWN_POOL: Remedy(
            _FAILED,
            "`compute.pool` names no pool of this cluster.",
            "Name one that the message lists, or define it in the chart's values (`pools`).",
        ),
        ConditionReason.NO_IMAGE_VARIANT: Remedy(
            _FAILED,
            "The chart names no images of the variant that runs on this pool.",
            "Set `images` of that variant in the chart's values, or choose another pool.",
        ),
        ConditionReason.NOT_A_GROUP: Remedy(
            _FAILED,
            "More than one node is asked for where pods work independently.",
            "Set `compute.nodes` to 1, and `shards` to the number of pods.",
        ),
        ConditionReason.RESERVED_ENGINE_FLAG: Remedy(
            _FAILED, "`engineArgs` sets what a field of the spec sets.", "Use the field the message names."
        ),
        ConditionReason.FORBIDDEN_ENGINE_FLAG: Remedy(
            _FAILED,
            "`engineArgs` has a flag, or a value of one, that loads code, reads files or opens the server.",
            "Leave it out, or have whoever runs the operator add it to `settings.allowedEngineArgs` of the chart.",
        ),
        ConditionReason.FORBIDDEN_ENDPOINT: Remedy(
            _FAILED,
            "`endpoint`, `target.repository` or `git.forge` names a host that pods may not call, or the key of an "
            "endpoint is in a Secret of the platform's.",
            "Use a host that the platform allows (`settings.allowedEndpointHosts`, `settings.allowedGitHosts` of the "
            "chart) and a Secret of its own.",
        ),
        ConditionReason.INVALID_OBJECT: Remedy(
            _FAILED,
            "The API server finds an object of this resource invalid; the message has its sentence.",
            "Correct the field it names; where a policy or a webhook refuses it, ask whoever runs that.",
        ),
        ConditionReason.NAME_TAKEN: Remedy(
            (Phase.RUNNING, Phase.FAILED),
            "A resource that was to be made is there and is somebody else's: a pipeline's stage, a gate's Evaluation, "
            "or both names that a training job's Checkpoint may have.",
            "Delete it, or choose another name; a StarDeployment that is there is moved by a pipeline's "
            "`deployment.use`.",
        ),
        ConditionReason.NO_SUCH_METRIC: Remedy(
            _FAILED,
            "`spec.select.metric` is in no evaluation's report; the message lists what is.",
            "Create the pipeline anew with one of these: all that was done is reused.",
        ),
        ConditionReason.UNKNOWN_STAGE: Remedy(
            (Phase.RUNNING, Phase.FAILED, Phase.SUCCEEDED),
            "The annotation `star.recsys.dev/retry` names a stage that this pipeline does not have.",
            "Annotate it with one that the message lists.",
        ),
    },
)

RAN = Section(
    "It ran, and did not end well",
    "What may pass is tried again `spec.retries` times: phase Waiting with the time of the next attempt, then Failed.",
    {
        ConditionReason.GATE_FAILED: Remedy(
            (Phase.GATED,),
            "The checkpoint's figures miss a rule of `spec.gates`; what served before goes on serving.",
            "Promote a better checkpoint, or change the rule.",
        ),
        ConditionReason.DRIFT_CORRECTED: Remedy(
            (Phase.READY, Phase.RUNNING),
            "Somebody changed an object that a StarDeployment has made; an Event names the field, and who it was.",
            "Change the StarDeployment instead, in Git where it comes from there: its objects are put right each time.",
        ),
        ConditionReason.DEADLINE_EXCEEDED: Remedy(
            _FAILED,
            "The step took longer than `spec.activeDeadlineSeconds`.",
            "Raise it; unfinished work is kept and continued.",
        ),
        ConditionReason.RESULT_LOST: Remedy(
            _TRIED_AGAIN,
            "The step ended well, and its pod went before its result was read.",
            "Nothing: the next attempt finds the artifact.",
        ),
        ConditionReason.POD_FAILED: Remedy(
            _TRIED_AGAIN,
            "A pod ended without saying why.",
            "Read its log (`kubectl logs`), and the pod's events (`kubectl describe pod`).",
        ),
        ConditionReason.POD_LOST: Remedy(
            _TRIED_AGAIN,
            "The cluster ended a pod: its node was lost, drained or short of something, or its kubelet refused it.",
            "Nothing, as a rule; if it comes again, look at the node the message speaks of.",
        ),
        ConditionReason.CONTAINER_FAILED: Remedy(
            _WAITS, "A container that prepares the pod ended badly; it is started again.", "Read that container's log."
        ),
        ConditionReason.JOB_FAILED: Remedy(
            _TRIED_AGAIN,
            "A job failed with a word that this operator does not know: its image is newer.",
            "See the message; use images of the operator's own version.",
        ),
        ConditionReason.STAGE_FAILED: Remedy(
            _FAILED,
            "A stage of the pipeline failed; the message names it and has its own sentence.",
            "Mend what it says, then annotate the pipeline with `star.recsys.dev/retry: <stage>`.",
        ),
        ConditionReason.CANCELLED: Remedy(
            _FAILED, "`spec.cancel` is true.", "Create a new pipeline to go on: what was done is reused."
        ),
        ConditionReason.MOVED_ON: Remedy(
            _FAILED,
            "The StarDeployment was told to serve another model before this pipeline's was rolled out.",
            "Nothing, where that was meant; else set its `spec.checkpoint` to this pipeline's `status.checkpoint`.",
        ),
        ConditionReason.VERDICT_FAILED: Remedy(
            (Phase.GATED,),
            "A figure of this digest is not what the PromotionPolicy requires; nothing was committed.",
            "Promote a better checkpoint; measure again where the measurement was at fault; or override it.",
        ),
        ConditionReason.DATA_TOO_OLD: Remedy(
            (Phase.GATED,),
            "The raw data are older than `requires.maxDataAgeDays` of the PromotionPolicy.",
            "Prepare newer data, and measure or train on these.",
        ),
        ConditionReason.OVERRIDDEN: Remedy(
            (Phase.RUNNING, Phase.SUCCEEDED),
            "Somebody with the verb `override` decided to do without requirements; the message tells which and why.",
            "Nothing, where that was meant; else revert the commit.",
        ),
        ConditionReason.SUPERSEDED: Remedy(
            _FAILED, "A later automatic Promotion has moved the place on before this one could begin.", "Nothing."
        ),
        ConditionReason.PULL_REQUEST_CLOSED: Remedy(
            _FAILED,
            "The pull request was closed without being merged.",
            "Nothing, where that was meant; else create a new Promotion.",
        ),
        ConditionReason.NOT_STANDING: Remedy(
            _FAILED,
            "The pull request was merged, and another digest stands at the place.",
            "Look at what was changed in review; create a new Promotion to move the digest again.",
        ),
    },
)

JOBS = Section(
    "A job's own error",
    "The pod that did the work says why it ended. Errors that would come again are not tried again.",
    {
        Reason.STORE_UNREACHABLE: Remedy(
            _TRIED_AGAIN,
            "The artifact store did not answer, or answered with an error that may pass.",
            "Check `store` in the chart's values, and the network from the namespace to it.",
        ),
        Reason.STORE_ACCESS_DENIED: Remedy(
            _FAILED,
            "The store refuses the credentials, or what they ask for.",
            "Correct the Secret that `store.secretName` names, or the rights behind it; the message says which.",
        ),
        Reason.STORE_CREDENTIALS_EXPIRED: Remedy(
            _TRIED_AGAIN,
            "Temporary credentials of the store came to their end.",
            "Put new ones into the Secret, with `AWS_SESSION_TOKEN`; pods read it when they start. A role of the "
            "service account renews itself.",
        ),
        Reason.STORE_CLOCK_SKEWED: Remedy(
            _TRIED_AGAIN,
            "The node's clock and the store's are too far apart for a signature to hold.",
            "Set both by NTP.",
        ),
        Reason.STORE_FULL: Remedy(
            _TRIED_AGAIN, "The store has no room, or the bucket's quota is used up.", "Free space, or raise the quota."
        ),
        Reason.STORE_MISCONFIGURED: Remedy(
            _FAILED,
            "The endpoint is no S3 API, its certificate is not trusted, or the bucket is missing or in another region.",
            "Correct `store` or `caBundle` in the chart's values; the message says which.",
        ),
        Reason.STORE_REFUSED: Remedy(
            _FAILED,
            "The store will not do this: Object Lock, an archive class, a KMS key, a size limit, a missing feature.",
            "The message has the store's own sentence, and what to change.",
        ),
        Reason.SOURCE_CHANGED: Remedy(
            _TRIED_AGAIN,
            "Raw files changed while they were read, or are not those that `spec.source.digest` pins.",
            "Let their writer finish, or write each version under a prefix of its own; pin the one you mean.",
        ),
        Reason.BEING_DELETED: Remedy(
            _TRIED_AGAIN,
            "What the spec names was let go, and retention deletes it just now.",
            "Run its stage again; [retention.md](retention.md) says what is kept, and how to pin it.",
        ),
        Reason.ARTIFACT_NOT_FOUND: Remedy(
            _FAILED, "What the spec names is not in the store.", "Correct the URI, or make the artifact again."
        ),
        Reason.ARTIFACT_CORRUPTED: Remedy(
            _FAILED,
            "A file of an artifact is not what its digest says: it was changed or cut.",
            "Restore the file, or make the artifact again with `cachePolicy: Never`.",
        ),
        Reason.INVALID_JOB_SPEC: Remedy(
            _FAILED,
            "The job cannot do what the spec asks for.",
            "Correct the field the message names; else the images are of another version than the operator.",
        ),
        Reason.INVALID_DATASET: Remedy(
            _FAILED,
            "The data cannot be used: a file, a line or a column; the message names it.",
            "Correct the source, or the spec's format and task types.",
        ),
        Reason.INVALID_MODEL: Remedy(
            _FAILED,
            "The model's files cannot be used: a part is missing, or its tokenizer or chat template.",
            "Complete the model's folder, or name another model.",
        ),
        Reason.INVALID_KEY: Remedy(
            (Phase.GATED, Phase.READY),
            "A key to sign or to check proofs with cannot be used; the message names it.",
            "Give an ECDSA (P-256, P-384) or Ed25519 key in PEM; [proofs.md](proofs.md) shows how to make one.",
        ),
        Reason.PROOF_MISSING: Remedy(
            (Phase.GATED,),
            "`spec.requireSignatures` asks for a signature, and the checkpoint has none, or too few.",
            "Have it signed, or copy its proofs with it: [proofs.md](proofs.md).",
        ),
        Reason.PROOF_ALTERED: Remedy(
            (Phase.GATED,),
            "A signature, a statement or a card is not what was signed; the message has both digests.",
            "Find out who can write to the store. Take the genuine copy, or annotate the Checkpoint with "
            "`star.recsys.dev/attest` to have the proof made anew.",
        ),
        Reason.SIGNATURE_FOREIGN: Remedy(
            (Phase.GATED,),
            "The checkpoint is signed by a key that `spec.requireSignatures.keys` does not have; both are named.",
            "Add the key, if you trust it; else have the checkpoint signed by one of yours.",
        ),
        Reason.VERDICT_NOT_BOUND: Remedy(
            (Phase.GATED,),
            "An Evaluation's status is not what its report says, or the report measured something else.",
            "Delete the Evaluation, so that it is measured anew, and see who may write its status.",
        ),
        Reason.LLM_UNREACHABLE: Remedy(
            _TRIED_AGAIN,
            "The LLM endpoint did not answer, or was too busy for too long.",
            "Check `llm.endpoint`, its limits (`llm.rateLimits`) and the network to it.",
        ),
        Reason.LLM_ACCESS_DENIED: Remedy(
            _FAILED, "The LLM endpoint refuses the key.", "Correct the Secret that `llm.endpoint` names."
        ),
        Reason.LLM_OUTPUT_INVALID: Remedy(
            _FAILED,
            "The model returned nothing that could be used.",
            "Name a model that follows instructions, or raise `sampling.maxTokens`.",
        ),
        Reason.NOT_COMPARABLE: Remedy(
            _FAILED,
            "What it is compared with was measured on other tasks, or runs on training tasks.",
            "Measure both on the same dataset, suites and samples; of a TeacherRun, `split: Test` and `filter: None`.",
        ),
        Reason.TOKEN_BUDGET_SPENT: Remedy(
            _FAILED, "The run has used all tokens it may use.", "Raise the budget; what was done is kept."
        ),
        Reason.NOTHING_KEPT: Remedy(
            _FAILED,
            "No trajectory passed the filter.",
            "Use a stronger teacher or more passes, or `filter: None`.",
        ),
        Reason.NOTHING_TO_TRAIN_ON: Remedy(
            _FAILED,
            "No sequence is left to train on.",
            "Raise `hyperparameters.maxLength`, or make more trajectories.",
        ),
        Reason.TRAINING_DIVERGED: Remedy(
            _FAILED,
            "The training's loss or gradient became NaN or infinite at the step that the message names.",
            "Lower `hyperparameters.learningRate`, or compute in float32 (`hyperparameters.precision`).",
        ),
        Reason.TRAINER_FAILED: Remedy(
            _TRIED_AGAIN,
            "The training engine ended; the message has its last error.",
            "If it comes again, read the pod's log and correct what the message names.",
        ),
        Reason.OUT_OF_MEMORY: Remedy(
            _TRIED_AGAIN,
            "The pod or its GPU had not enough memory.",
            "Raise `compute.resources.memoryLimit`, or lower batch sizes and lengths.",
        ),
        Reason.OUT_OF_DISK: Remedy(
            _TRIED_AGAIN, "The pod's scratch space is full.", "Raise `compute.resources.scratch`."
        ),
        Reason.PROOF_DIFFERS: Remedy(
            _FAILED,
            "A report, or the checkpoint, says something else than what the promotion rests on; nothing was committed.",
            "Evaluate the checkpoint anew; find out who changed the Evaluation's status or the Checkpoint.",
        ),
        Reason.PLACE_NOT_FOUND: Remedy(
            _FAILED,
            "The file, document, field or marker of `spec.target` is not in the branch.",
            "Correct `spec.target`, or add the place to the repository first.",
        ),
        Reason.PLACE_REFUSED: Remedy(
            _FAILED,
            "The place is there and cannot be edited safely: a template, an anchor, two markers, a symbolic link.",
            "Change the file as the message says.",
        ),
        Reason.PROMOTION_CONFLICT: Remedy(
            _FAILED,
            "Somebody else changed the same place while the promotion ran; nothing was committed.",
            "Look at that commit, and promote again if this checkpoint is still wanted.",
        ),
        Reason.BRANCH_MOVING: Remedy(
            _TRIED_AGAIN,
            "Others pushed to the branch faster than it could be fetched and pushed.",
            "Nothing: it is tried again. `spec.limits.retries` lets one Job try more often.",
        ),
        Reason.GIT_UNREACHABLE: Remedy(
            _TRIED_AGAIN, "The Git server did not answer.", "Check `spec.target.repository` and the network to it."
        ),
        Reason.GIT_ACCESS_DENIED: Remedy(
            _FAILED,
            "The Git server refuses the credentials, or they may not push.",
            "Correct the Secret that `spec.git.secretRef` names.",
        ),
        Reason.GIT_HOST_UNVERIFIED: Remedy(
            _FAILED,
            "The server's host key or certificate is not one that is believed.",
            "Put its line into `known_hosts`, or its authority into `ca.crt`, of the Git Secret.",
        ),
        Reason.GIT_REFUSED: Remedy(
            _FAILED,
            "There is no such repository or branch, or the server does not take the commit; the message quotes it.",
            "Correct `spec.target`; of a protected branch, use `mode: PullRequest`.",
        ),
        Reason.GIT_TOO_LARGE: Remedy(
            _FAILED,
            "What must be fetched of the repository is larger than `spec.limits.fetchBytes`.",
            "Raise it, let the server filter blobs, or keep what is deployed in a repository of its own.",
        ),
        Reason.SIGNING_FAILED: Remedy(
            _FAILED,
            "The commit could not be signed.",
            "Put a private key without a passphrase into `signing-key` of the Git Secret, of the kind that "
            "`spec.git.signing` says.",
        ),
        Reason.FORGE_UNREACHABLE: Remedy(
            _TRIED_AGAIN, "The forge's API does not answer, or limits the rate.", "Check `spec.git.forge`."
        ),
        Reason.FORGE_ACCESS_DENIED: Remedy(
            _FAILED,
            "The forge refuses the token.",
            "Correct `token` of the Git Secret; it needs the right to write pull requests.",
        ),
        Reason.FORGE_REFUSED: Remedy(
            _FAILED,
            "The forge does not do what was asked; the message quotes it.",
            "Correct `spec.git.forge` or `spec.target` as the message says.",
        ),
        Reason.INTERRUPTED: Remedy(
            _TRIED_AGAIN, "The pod was told to stop: a drained node, or a preemption.", "Nothing: it is continued."
        ),
        Reason.INTERNAL: Remedy(
            _TRIED_AGAIN,
            "An error that nobody foresaw.",
            "Read the pod's log and report it; it has the whole trace.",
        ),
    },
)

WARNS = Section(
    "It succeeded, with a warning",
    "The artifact is there and can be used. The condition `Warnings` says what a person should know of it.",
    {
        WarningReason.DATA_LEFT_OUT: Remedy(
            _ENDED_WELL,
            "Lines, users or task files of the source cannot be used and were skipped; `stats.json` counts them.",
            "Look at the first one, which the message names; `spec.source.maxMalformed` is how many may be skipped.",
        ),
        WarningReason.DATA_IMPLAUSIBLE: Remedy(
            _ENDED_WELL,
            "Values of the source were taken that can hardly be right: dates of 1970, a column that is missing.",
            "Look at the first one, which the message names; `spec.source.maxImplausible` is how many are taken.",
        ),
        WarningReason.LOOK_UPS_LEFT_OUT: Remedy(
            _ENDED_WELL,
            "Ids that cannot be written in a tool call are not offered for look-ups.",
            "Nothing, where they are few; else give those users and items other ids.",
        ),
        WarningReason.PREVIOUS_GONE: Remedy(
            _ENDED_WELL,
            "What `spec.previous` names, or its artifact, is not there any more: nothing was taken over from it, and "
            "all was made anew. The outcome is the same, for more calls.",
            "Nothing; where the name was wrong, correct it in the next run.",
        ),
    },
)

SECTIONS = (WAITS, REFUSED, RAN, JOBS, WARNS, WELL)
REMEDIES: Mapping[AnyReason, Remedy] = {
    reason: remedy for section in SECTIONS for reason, remedy in section.remedies.items()
}
