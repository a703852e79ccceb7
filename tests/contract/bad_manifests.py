"""Manifests a person could get wrong, as data: a good sample, what was changed in it, and what the refusal must say."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"


class _Gone:
    """Marks a field that is left out."""


GONE: Final = _Gone()


@dataclass(frozen=True)
class Bad:
    """One mistake: the sample of a kind with some fields changed."""

    name: str
    kind: str
    """File name of the sample, without suffix."""
    changes: dict[str, Any]
    """By path, e.g. `spec.llm.server.replicas`; GONE leaves the field out."""
    says: tuple[str, ...]
    """What the refusal must contain: the field, and what to do."""

    def manifest(self) -> dict[str, Any]:
        """Return the bad manifest."""
        return changed(sample(self.kind), self.changes)


def sample(kind: str) -> dict[str, Any]:
    """Return the good sample of a kind."""
    loaded: dict[str, Any] = yaml.safe_load((SAMPLES / f"{kind}.yaml").read_text())
    return loaded


def changed(manifest: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a manifest with the fields at these paths set or left out."""
    result = copy.deepcopy(manifest)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = result
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if value is GONE:
            del node[last]
        else:
            node[int(last) if isinstance(node, list) else last] = value
    return result


_EXACTLY_ONE_LLM = ("spec.llm:", "set exactly one of endpoint", "and server")
_PEM = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
_ENDPOINT = {"url": "http://llm.example.com:8000/v1", "model": "m"}

BAD: Final[tuple[Bad, ...]] = (
    # Words and numbers.
    Bad("unknown-field", "teacherrun", {"spec.paces": 3}, ('unknown field "spec.paces"',)),
    Bad("unknown-nested-field", "sftjob", {"spec.hyperparameters.lr": 1}, ('unknown field "spec.hyperparameters.lr"',)),
    Bad(
        "wrong-enum",
        "teacherrun",
        {"spec.filter": "HitAt3"},
        ("spec.filter", 'Unsupported value: "HitAt3"', '"HitAt1", "None"'),
    ),
    Bad("wrong-format", "recdataset", {"spec.source.format": "CSV"}, ("spec.source.format", '"MovieLens"')),
    Bad("wrong-backend", "grpojob", {"spec.backend": "trl"}, ("spec.backend", '"verl", "ms-swift"')),
    Bad(
        "wrong-dtype",
        "evaluation",
        {"spec.llm.server.dtype": "int4"},
        ("spec.llm.server.dtype", '"auto", "bfloat16", "float16", "float32"'),
    ),
    Bad("twice-the-same-type", "recdataset", {"spec.tasks.types": ["classic"] * 2}, ("spec.tasks.types", "Duplicate")),
    Bad("text-for-a-number", "teacherrun", {"spec.passes": "four"}, ("spec.passes", "integer")),
    Bad("negative-count", "teacherrun", {"spec.shards": -1}, ("spec.shards", "greater than or equal to 1")),
    Bad("negative-retries", "sftjob", {"spec.retries": -1}, ("spec.retries", "greater than or equal to 0")),
    Bad("one-candidate", "recdataset", {"spec.tasks.candidates": 1}, ("spec.tasks.candidates", "equal to 2")),
    Bad(
        "zero-learning-rate",
        "sftjob",
        {"spec.hyperparameters.learningRate": 0},
        ("spec.hyperparameters.learningRate", "greater than 0"),
    ),
    Bad("hot-sampling", "teacherrun", {"spec.sampling.temperature": 3}, ("spec.sampling.temperature", "equal to 2")),
    # Formats.
    Bad(
        "file-uri",
        "recdataset",
        {"spec.source.uri": "file:///data"},
        ("spec.source.uri", "must be s3://bucket/path"),
    ),
    Bad("slash-at-end", "recdataset", {"spec.source.uri": "s3://star/raw/"}, ("spec.source.uri", "no slash at the")),
    Bad("bad-model-uri", "sftjob", {"spec.model.uri": "Qwen/Qwen3-8B"}, ("spec.model.uri", "must be hf://org/name")),
    Bad("option-as-model", "sftjob", {"spec.model.uri": "hf://-q/x"}, ("spec.model.uri", "must be hf://org/name")),
    Bad("folder-above", "recdataset", {"spec.source.uri": "s3://star/a/../b"}, ("spec.source.uri", "dots alone")),
    Bad("bad-digest", "checkpoint", {"spec.digest": "sha256:abc"}, ("spec.digest", "64 lower-case hex digits")),
    Bad(
        "bad-source-digest",
        "recdataset",
        {"spec.source.digest": "etag-1"},
        ("spec.source.digest", "64 lower-case hex digits"),
    ),
    Bad(
        "bad-input-digest",
        "checkpoint",
        {"spec.lineage.inputs": {"dataset": "latest"}},
        ("spec.lineage.inputs", "64 lower-case hex digits"),
    ),
    Bad(
        "bad-quantity",
        "sftjob",
        {"spec.compute.resources.memory": "512 GB"},
        ("spec.compute.resources.memory", "must be a quantity", "16Gi"),
    ),
    Bad("bad-pool-name", "sftjob", {"spec.compute.pool": "H20"}, ("spec.compute.pool", "must be a plain name")),
    Bad("bad-ref-name", "sftjob", {"spec.trajectories.name": "My Run"}, ("spec.trajectories.name", "resource's name")),
    Bad(
        "key-in-url",
        "teacherrun",
        {"spec.llm": {"endpoint": {**_ENDPOINT, "url": "https://user:key@llm/v1"}}},
        ("spec.llm.endpoint.url", "must be an http:// or https:// URL"),
    ),
    Bad(
        "host-of-two-readings",
        "teacherrun",
        {"spec.llm": {"endpoint": {**_ENDPOINT, "url": "http://169.254.169.254\\.example.com/v1"}}},
        ("spec.llm.endpoint.url", "of a plain host name or address"),
    ),
    Bad(
        "bad-metric",
        "stardeployment",
        {"spec.gates.rules.0.metric": "HR@1"},
        ("spec.gates.rules[0].metric", "e.g. hrAvg"),
    ),
    Bad(
        "two-flags-in-one",
        "stardeployment",
        {"spec.server.engineArgs": ["max-num-seqs 8"]},
        ("spec.server.engineArgs[0]", "must be one flag of vllm serve"),
    ),
    Bad(
        "origin-with-a-path",
        "stardeployment",
        {"spec.gateway": {"allowedOrigins": ["https://shop.example/app"]}},
        ("spec.gateway.allowedOrigins[0]", "must be an origin as browsers send it"),
    ),
    Bad(
        "open-gateway-with-keys",
        "stardeployment",
        {"spec.gateway": {"open": True, "apiKeys": {"name": "keys"}}},
        ("spec.gateway", "open admits everybody", "name one"),
    ),
    Bad(
        "falling-rollout-steps",
        "stardeployment",
        {"spec.rollout": {"steps": [{"weight": 50, "pauseSeconds": 60}, {"weight": 10, "pauseSeconds": 60}]}},
        ("spec.rollout", "steps must have rising weights"),
    ),
    Bad(
        "private-key-to-verify-with",
        "stardeployment",
        {"spec.requireSignatures": {"keys": [{"name": "a", "publicKey": _PEM.replace("PUBLIC", "PRIVATE")}]}},
        ("spec.requireSignatures.keys[0].publicKey", "must be one public key in PEM"),
    ),
    Bad(
        "key-twice-given",
        "stardeployment",
        {
            "spec.requireSignatures": {
                "keys": [{"name": "a", "publicKey": _PEM, "configMapKeyRef": {"name": "m", "key": "k"}}]
            }
        },
        ("spec.requireSignatures.keys[0]", "set exactly one of publicKey", "configMapKeyRef"),
    ),
    Bad(
        "more-signers-than-keys",
        "stardeployment",
        {"spec.requireSignatures": {"keys": [{"name": "a", "publicKey": _PEM}], "threshold": 2}},
        ("spec.requireSignatures:", "threshold must not be above the number of keys"),
    ),
    # What is missing.
    Bad("no-dataset", "teacherrun", {"spec.dataset": GONE}, ("spec.dataset: Required value",)),
    Bad("no-llm", "verbalization", {"spec.llm": GONE}, ("spec.llm: Required value",)),
    Bad("no-ref-name", "sftjob", {"spec.trajectories": {}}, ("spec.trajectories.name: Required value",)),
    Bad("no-spec", "recdataset", {"spec": GONE}, ("spec: Required value",)),
    Bad("no-gate-rules", "stardeployment", {"spec.gates.rules": []}, ("spec.gates.rules", "at least 1 items")),
    # Fields that do not go together.
    Bad("endpoint-and-server", "teacherrun", {"spec.llm.endpoint": _ENDPOINT}, _EXACTLY_ONE_LLM),
    Bad("neither-endpoint-nor-server", "teacherrun", {"spec.llm": {"concurrency": 8}}, _EXACTLY_ONE_LLM),
    Bad(
        "checkpoint-and-uri",
        "sftjob",
        {"spec.model.checkpoint": "base"},
        ("spec.model:", "set exactly one of checkpoint", "and uri"),
    ),
    Bad("no-model", "stardeployment", {"spec.checkpoint": {}}, ("spec.checkpoint:", "set exactly one of checkpoint")),
    Bad(
        "s3-without-digest",
        "sftjob",
        {"spec.model": {"uri": "s3://star/models/base"}},
        ("spec.model:", "needs digest (sha256:...)"),
    ),
    Bad(
        "tools-without-verbalization",
        "teacherrun",
        {"spec.verbalization": GONE},
        ("spec:", "agents.tools needs verbalization", "set agents.tools to false"),
    ),
    Bad(
        "evaluated-tools-without-verbalization",
        "evaluation",
        {"spec.verbalization": GONE},
        ("spec:", "settings.tools needs verbalization", "set settings.tools to false"),
    ),
    Bad(
        "gated-tools-without-verbalization",
        "stardeployment",
        {"spec.verbalization": GONE},
        ("spec:", "gates.settings.tools needs verbalization"),
    ),
    Bad(
        "agent-that-mars-lacks",
        "teacherrun",
        {"spec.agentLlms": {"critic": {"endpoint": _ENDPOINT}}},
        ("spec:", "agentLlms names an agent that MARS does not have; its agents are planner,"),
    ),
    Bad(
        "filtered-measurement",
        "teacherrun",
        {"spec.split": "Test"},
        ("spec:", "split Test measures the teacher", "set filter to None"),
    ),
    Bad(
        "reward-for-a-plan",
        "grpojob",
        {"spec.variant": "PlannerOnly"},
        ("spec:", "variant PlannerOnly ranks nothing"),
    ),
    Bad(
        "no-tools-for-a-student-with",
        "grpojob",
        {"spec.variant": "WithoutPlanner", "spec.verbalization": GONE},
        ("spec:", "tools, which need verbalization", "change variant"),
    ),
    Bad(
        "measured-variant-and-tools",
        "evaluation",
        {"spec.settings.variant": "WithoutTools"},
        ("spec:", "settings.variant must be one that ranks", "with settings.tools false"),
    ),
    Bad(
        "nothing-to-measure",
        "evaluation",
        {"spec.llm": GONE, "spec.settings.baselines": []},
        ("spec:", "give llm (the model to measure), or at least one of settings.baselines"),
    ),
    Bad(
        "comparison-of-nothing",
        "evaluation",
        {"spec.against": {"evaluation": "before"}, "spec.llm": GONE},
        ("spec:", "against compares the measured model with another; give llm"),
    ),
    Bad(
        "others-beside-nothing",
        "evaluation",
        {"spec.beside": [{"evaluation": "before"}], "spec.llm": GONE},
        ("spec:", "beside compares the measured model with others; give llm"),
    ),
    Bad(
        "another-of-no-kind",
        "evaluation",
        {"spec.beside": [{"evaluation": "before"}, {"digest": "sha256:" + "0" * 64}]},
        ("spec.beside[1]:", "set exactly one of evaluation", "teacherRun"),
    ),
    Bad(
        "comparison-without-pin",
        "evaluation",
        {"spec.against": {"uri": "s3://star/ns/evaluation/before/1/evaluate"}},
        ("spec.against:", "uri needs digest"),
    ),
    Bad(
        "comparison-with-two",
        "evaluation",
        {"spec.against": {"evaluation": "before", "uri": "s3://star/x/y", "digest": "sha256:" + "0" * 64}},
        ("spec.against:", "set exactly one of evaluation", "and uri"),
    ),
    Bad(
        "comparison-with-evaluation-and-teacher",
        "evaluation",
        {"spec.against": {"evaluation": "before", "teacherRun": "mars"}},
        ("spec.against:", "set exactly one of evaluation", "teacherRun (a TeacherRun's name, on the test tasks)"),
    ),
    Bad(
        "comparison-with-no-one",
        "evaluation",
        {"spec.against": {"digest": "sha256:" + "0" * 64}},
        ("spec.against:", "set exactly one of evaluation", "teacherRun"),
    ),
    Bad(
        "single-agent-with-tools",
        "evaluation",
        {"spec.settings.singleAgent": "Base"},
        ("spec:", "settings.singleAgent asks a model by a prompt without tools", "set settings.tools to false"),
    ),
    Bad(
        "unknown-baseline",
        "evaluation",
        {"spec.settings.baselines": ["svd"]},
        ("spec.settings.baselines", '"als"', '"lightgcn"'),
    ),
    Bad(
        "equal-passes",
        "teacherrun",
        {"spec.sampling": {"temperature": 0}},
        ("spec:", "passes above 1 need sampling.temperature above 0"),
    ),
    Bad(
        "equal-answers",
        "evaluation",
        {"spec.settings.sampling.temperature": 0},
        ("spec:", "settings.bestOf above 1 needs settings.sampling.temperature above 0"),
    ),
    Bad(
        "parallel-size-mismatch",
        "teacherrun",
        {"spec.llm.server.tensorParallelSize": 8},
        (
            "spec.llm.server:",
            "tensorParallelSize x pipelineParallelSize must equal compute.nodes x",
        ),
    ),
    Bad(
        "parallel-without-gpus",
        "verbalization",
        {"spec.llm.server.compute.gpusPerNode": 0},
        ("spec.llm.server:", "parallel sizes above 1 need compute.gpusPerNode"),
    ),
    Bad(
        "served-parallel-mismatch",
        "stardeployment",
        {"spec.server.tensorParallelSize": 2},
        ("spec.server:", "tensorParallelSize must equal compute.nodes x compute.gpusPerNode"),
    ),
    Bad(
        "reserved-engine-flag",
        "stardeployment",
        {"spec.server.engineArgs": ["--tensor-parallel-size=2"]},
        ("spec.server:", "engineArgs must not contain", "use the server's own fields"),
    ),
    Bad(
        "key-in-engine-args",
        "stardeployment",
        {"spec.server.engineArgs": ["--api-key=secret"]},
        ("spec.server:", "engineArgs must not contain", "keys never belong into arguments"),
    ),
    Bad(
        "zero-without-gpus",
        "sftjob",
        {"spec.compute.gpusPerNode": 0, "spec.hyperparameters.globalBatchSize": 2},
        ("spec:", "hyperparameters.sharding (DeepSpeed) needs GPUs", "or sharding to None"),
    ),
    Bad(
        "batch-not-a-multiple",
        "sftjob",
        {"spec.hyperparameters.globalBatchSize": 60},
        ("spec:", "hyperparameters.globalBatchSize must be a multiple of microBatchSize"),
    ),
    Bad(
        "group-on-cpus",
        "sftjob",
        {"spec.compute": {"nodes": 2}},
        ("spec.compute:", "nodes above 1 needs gpusPerNode", "or nodes to 1"),
    ),
    Bad(
        "group-of-workers",
        "teacherrun",
        {"spec.compute": {"nodes": 2, "gpusPerNode": 1}},
        ("spec:", "compute.nodes must be 1", "use shards"),
    ),
    Bad(
        "group-to-prepare",
        "recdataset",
        {"spec.compute": {"nodes": 2, "gpusPerNode": 1}},
        ("spec:", "compute.nodes must be 1"),
    ),
    Bad(
        "rollout-does-not-divide",
        "grpojob",
        {"spec.hyperparameters.tensorParallelSize": 3},
        ("spec:", "hyperparameters.tensorParallelSize must divide compute.nodes x compute.gpusPerNode"),
    ),
    Bad(
        "rollout-parallel-without-gpus",
        "grpojob",
        {"spec.compute": {}, "spec.hyperparameters.microBatchSize": 2},
        ("spec:", "hyperparameters.tensorParallelSize above 1 needs compute.gpusPerNode"),
    ),
    Bad(
        "mini-batch-not-a-divisor",
        "grpojob",
        {"spec.hyperparameters.trainBatchSize": 30},
        ("spec:", "hyperparameters.trainBatchSize must be a multiple of miniBatchSize"),
    ),
    Bad(
        "micro-batch-not-a-divisor",
        "grpojob",
        {"spec.hyperparameters.microBatchSize": 4},
        ("spec:", "hyperparameters.miniBatchSize x groupSize must be a multiple of microBatchSize"),
    ),
    Bad(
        "empty-mix",
        "grpojob",
        {"spec.sampling.mix": {"easy": 0, "medium": 0, "hard": 0}},
        ("spec:", "sampling.mix must leave some instances", "set easy, medium or hard above 0"),
    ),
    Bad(
        "value-and-baseline",
        "stardeployment",
        {"spec.gates.rules.0.value": 0.5},
        ("spec.gates.rules[0]:", "set exactly one of value (a number) and baseline"),
    ),
    Bad(
        "neither-value-nor-baseline",
        "stardeployment",
        {"spec.gates.rules.0.baseline": GONE},
        ("spec.gates.rules[0]:", "set exactly one of value (a number) and baseline"),
    ),
    # Pipelines.
    Bad(
        "no-run-is-kept",
        "starpipeline",
        {"spec.retention.keepRuns": 0},
        ("spec.retention.keepRuns", "should be greater than or equal to 1"),
    ),
    Bad("unknown-retention", "starpipeline", {"spec.retention.keep": 1}, ('unknown field "spec.retention.keep"',)),
    Bad("no-stage", "starpipeline", {"spec": {}}, ("spec:", "give at least one stage")),
    Bad("unknown-stage", "starpipeline", {"spec.rlhf": {"template": {}}}, ('unknown field "spec.rlhf"',)),
    Bad(
        "wired-reference",
        "starpipeline",
        {"spec.sft.template.trajectories": {"name": "t"}},
        ('unknown field "spec.sft.template.trajectories"',),
    ),
    Bad(
        "wired-model",
        "starpipeline",
        {"spec.evaluation.template.llm": {"endpoint": _ENDPOINT}},
        ('unknown field "spec.evaluation.template.llm"',),
    ),
    Bad(
        "template-and-use",
        "starpipeline",
        {"spec.dataset.use": {"name": "d"}},
        ("spec.dataset:", "set exactly one of template (what to make) and use"),
    ),
    Bad(
        "stage-without-what-it-needs",
        "starpipeline",
        {"spec.teacher": GONE},
        ("spec:", "sft needs teacher: give it a template or use, or leave sft out"),
    ),
    Bad(
        "templates-rule",
        "starpipeline",
        {"spec.sft.template.hyperparameters.globalBatchSize": 63},
        ("spec.sft.template:", "must be a multiple of microBatchSize"),
    ),
    Bad(
        "lifted-rule",
        "starpipeline",
        {"spec.verbalization": GONE},
        ("spec:", "teacher.template: agents.tools needs verbalization"),
    ),
    Bad(
        "variant-of-a-stage-that-is-not-made",
        "starpipeline",
        {"spec.verbalization": {"use": {"name": "v"}}, "spec.variants.base": {"verbalization": {"scope": "Tasks"}}},
        ("spec:", "variants patch verbalization.template, which is not there"),
    ),
    Bad(
        "unknown-stage-of-a-variant",
        "starpipeline",
        {"spec.variants.base": {"training": {}}},
        ('unknown field "spec.variants.base.training"',),
    ),
    Bad("variants-name", "starpipeline", {"spec.variants.Big": {}}, ("spec.variants", "keys must be a variant's name")),
    Bad(
        "variants-without-select",
        "starpipeline",
        {"spec.select": GONE},
        ("spec:", "several variants and a deployment need select"),
    ),
    Bad(
        "select-without-evaluation",
        "starpipeline",
        {"spec.evaluation": GONE},
        ("spec:", "select compares what the evaluation measured"),
    ),
    Bad(
        "select-from-another-stage",
        "starpipeline",
        {"spec.select.from": "teacher"},
        ("spec.select.from", '"evaluation"'),
    ),
    Bad(
        "incumbent-without-deployment",
        "starpipeline",
        {"spec.baseModel": "Incumbent", "spec.deployment": GONE},
        ("spec:", "baseModel Incumbent trains what the deployment serves"),
    ),
    Bad(
        "finished-model-and-sft",
        "starpipeline",
        {"spec.grpo": {"use": {"checkpoint": "c"}}},
        ("spec:", "leave sft out, or give grpo a template"),
    ),
    # Schedules.
    Bad("cron-of-never", "retrainschedule", {"spec.schedule": "0 0 31 2 *"}, ("spec:", "a day that its months do not")),
    Bad("cron-of-no-june-31", "retrainschedule", {"spec.schedule": "0 0 31 4,JUN *"}, ("spec:", "write L for the")),
    Bad("cron-of-six-fields", "retrainschedule", {"spec.schedule": "0 0 0 1 1 *"}, ("spec.schedule", "five fields")),
    Bad("cron-out-of-range", "retrainschedule", {"spec.schedule": "60 2 * * *"}, ("spec.schedule", "five fields")),
    Bad(
        "cron-by-name", "retrainschedule", {"spec.schedule": "@weekly"}, ("spec.schedule", "five fields as in crontab")
    ),
    Bad(
        "no-such-zone", "retrainschedule", {"spec.timeZone": "Europe/Atlantis"}, ("spec", "zone of the IANA data base")
    ),
    Bad("zone-by-offset", "retrainschedule", {"spec.timeZone": "+02:00"}, ("spec.timeZone", "e.g. Europe/Berlin")),
    Bad(
        "window-at-no-time",
        "retrainschedule",
        {"spec.windows.0.start": "8pm"},
        ("spec.windows[0].start", "must be a time of day"),
    ),
    Bad(
        "window-of-nothing",
        "retrainschedule",
        {"spec.windows.0.end": "20:00"},
        ("spec.windows[0]:", "start and end are equal"),
    ),
    Bad(
        "no-budget",
        "retrainschedule",
        {"spec.gpuBudget": 0},
        ("spec.gpuBudget", "greater than or equal to 1"),
    ),
    Bad(
        "drift-of-nothing",
        "retrainschedule",
        {"spec.trigger": {"type": "Drift"}},
        ("spec.trigger:", "set it for this type, and for no other"),
    ),
    Bad(
        "new-data-of-nothing",
        "retrainschedule",
        {"spec.trigger": {"type": "NewData"}, "spec.pipeline.dataset": {"use": {"name": "amazon"}}},
        ("spec:", "trigger NewData looks at the source of pipeline.dataset.template"),
    ),
    Bad(
        "template-with-a-wired-reference",
        "retrainschedule",
        {"spec.pipeline.sft.template.trajectories": {"name": "t"}},
        ('unknown field "spec.pipeline.sft.template.trajectories"',),
    ),
    Bad(
        "template-of-an-unknown-stage",
        "retrainschedule",
        {"spec.pipeline.training": {}},
        ('unknown field "spec.pipeline.training"',),
    ),
    Bad(
        "template-with-a-series",
        "retrainschedule",
        {"spec.pipeline.series": "mine"},
        ('unknown field "spec.pipeline.series"',),
    ),
    Bad(
        "template-without-data",
        "retrainschedule",
        {"spec.pipeline.dataset": GONE},
        ("spec.pipeline:", "needs dataset: give it a template or use"),
    ),
    # Promotions and environments.
    Bad(
        "checkpoint-without-a-digest",
        "promotion",
        {"spec.checkpoint": {"uri": "s3://star/models/x"}},
        ("spec.checkpoint:", "uri needs digest"),
    ),
    Bad("no-checkpoint", "promotion", {"spec.checkpoint": {}}, ("spec.checkpoint:", "set exactly one of name")),
    Bad(
        "a-model-of-a-hub",
        "promotion",
        {"spec.checkpoint": {"uri": "hf://Qwen/Qwen3-1.7B", "digest": f"sha256:{'0' * 64}"}},
        ("spec.checkpoint.uri", "must be s3://bucket/path"),
    ),
    Bad(
        "a-password-in-the-repository",
        "promotion",
        {"spec.target.repository": "https://me:secret@git.example.com/o/r.git"},
        ("spec.target.repository", "no password", "git.secretRef"),
    ),
    Bad(
        "plain-http",
        "promotion",
        {"spec.target.repository": "http://git.example.com/o/r.git"},
        ("spec.target.repository", "https://host/path"),
    ),
    Bad(
        "up-and-away",
        "promotion",
        {"spec.target.path": "../star.yaml"},
        ("spec.target.path", "no part begins with a dot"),
    ),
    Bad("a-ref-as-a-branch", "promotion", {"spec.target.branch": "main^"}, ("spec.target.branch", "a branch's name")),
    Bad(
        "field-and-marker", "promotion", {"spec.target.field": "spec.checkpoint"}, ("spec.target:", "field", "not both")
    ),
    Bad("no-forge", "promotion", {"spec.git.forge": GONE}, ("spec:", "mode PullRequest needs git.forge")),
    Bad(
        "an-approval-of-nothing",
        "promotion",
        {"spec.approvals": [{"user": "ann", "digest": "latest"}]},
        ("spec.approvals[0].digest", "must be a digest"),
    ),
    Bad(
        "two-approvals-of-one",
        "promotion",
        {"spec.approvals": [{"user": "ann", "digest": f"sha256:{digit * 64}"} for digit in "01"]},
        ("spec.approvals[1]: Duplicate value",),
    ),
    Bad("a-soak-of-nowhere", "promotionpolicy", {"spec.after": GONE}, ("spec:", "requires.soak needs to know where")),
    Bad(
        "auto-of-nothing",
        "promotionpolicy",
        {"spec.after": GONE, "spec.requires.soak": GONE},
        ("spec:", "auto needs to know what to promote"),
    ),
    Bad(
        "from-and-after",
        "promotionpolicy",
        {"spec.from": {"series": "weekly"}},
        ("spec:", "one with after takes what arrived there: leave one out"),
    ),
    Bad(
        "a-freeze-that-ends-first",
        "promotionpolicy",
        {"spec.freezes.0.end": "2026-12-17T00:00:00Z"},
        ("spec.freezes[0]:", "start must be before end"),
    ),
    Bad(
        "a-freeze-of-some-day",
        "promotionpolicy",
        {"spec.freezes.0.start": "Christmas"},
        ("spec.freezes[0].start", "RFC 3339 in UTC"),
    ),
    Bad("environment-in-no-zone", "promotionpolicy", {"spec.timeZone": "Mars/Base"}, ("spec:", "IANA data base")),
    Bad("a-window-that-never-opens", "promotionpolicy", {"spec.windows.0.days": []}, ("spec.windows[0].days",)),
    Bad(
        "a-rule-without-a-threshold",
        "promotionpolicy",
        {"spec.requires.verdicts.0": {"metric": "hrAvg"}},
        ("spec.requires.verdicts[0]:", "set exactly one of value"),
    ),
)
