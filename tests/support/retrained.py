"""Follows the runs that a schedule starts in its tenants, kills the operator in the middle, and writes down what was.

Nothing is done to a run: what is observed is read from the API, and what is asked of the cluster are kills, new raw
files, and in the end that the schedule starts no more.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from star_contracts.names import LABEL_KIND, LABEL_NAME
from star_operator.core.times import timestamp, to_seconds
from tests.support.kubectl import Kubectl
from tests.support.storelist import Bucket, Listing, to_go
from tests.support.tenants import SCHEDULE, Tenant

OPERATOR = "app.kubernetes.io/name=star-operator"
KINDS = ("recdataset", "verbalization", "teacherrun", "sftjob", "grpojob", "evaluation", "checkpoint")
ORDER = ("dataset", "verbalization", "teacher", "sft", "grpo", "evaluation")
LAST = 3
"""Runs of each tenant."""
Body = dict[str, Any]


def say(text: str) -> None:
    """Show what happens: the whole takes long, and whoever waits wants to see it move."""
    os.write(2, f"{datetime.now(UTC):%H:%M:%S} {text}\n".encode())


@dataclass
class Ran:
    """A run, as it was when it had ended."""

    tenant: Tenant
    number: int
    pipeline: Body
    stages: Mapping[str, Body]
    """The stages' resources, by stage."""
    deployment: Body
    gates: list[Body]
    """The deployment's Evaluations."""
    jobs: list[Body]
    store: Listing
    goes: set[str]
    """Of a second run: keys that go with the first."""
    new: int
    """Interactions of its snapshot that arrived after the first run had read its source."""

    @property
    def name(self) -> str:
        """Its pipeline's name."""
        return str(self.pipeline["metadata"]["name"])

    @property
    def rows(self) -> Mapping[str, Body]:
        """Its status' rows, by stage."""
        return {row["name"]: row for row in self.pipeline["status"]["stages"]}

    @property
    def seconds(self) -> int:
        """From its creation to its end."""
        return to_seconds(self.pipeline["status"]["completionTime"]) - to_seconds(self.created)

    @property
    def created(self) -> str:
        """When it was made, RFC 3339."""
        return str(self.pipeline["metadata"]["creationTimestamp"])

    @property
    def tick(self) -> str:
        """The time of the schedule that it stands for."""
        return str(self.pipeline["metadata"]["annotations"]["star.recsys.dev/tick"])

    def handovers(self) -> dict[str, int]:
        """Return the seconds from a stage's end to the next one's first Job, by the latter, as the objects say."""
        chain = [self.stages[name] for name in ORDER if name in self.stages]
        following = [*chain[1:], *self.gates[-1:]]
        found = {}
        for before, after in zip(chain, following, strict=False):
            wanted = {LABEL_KIND: after["kind"].lower(), LABEL_NAME: after["metadata"]["name"]}
            made = [
                to_seconds(job["metadata"]["creationTimestamp"])
                for job in self.jobs
                if wanted.items() <= job["metadata"]["labels"].items()
            ]
            ended = to_seconds(before["status"]["completionTime"])
            if made and min(made) >= ended - 1:  # a gate's may be one of an earlier run
                found[after["metadata"]["name"]] = min(made) - ended
        return found


@dataclass
class Following:
    """Follows all runs to the last one's end."""

    kubectl: Kubectl
    bucket: Bucket
    tenants: tuple[Tenant, ...]
    kills: Mapping[tuple[int, int], Callable[[Mapping[str, str]], bool]]
    """By a tenant's place and a run's number: at what phases of its stages the operator is killed."""
    upload: Callable[[Tenant], None]
    """Brings a tenant's new interactions."""
    ran: dict[tuple[str, int], Ran] = field(default_factory=dict)
    killed: dict[tuple[str, int], str] = field(default_factory=dict)
    """By run: the operator's pod that was killed in the middle of it, and when."""
    uploaded: dict[str, str] = field(default_factory=dict)
    """By namespace: when the new interactions were there."""
    _told: dict[tuple[str, int], str] = field(default_factory=dict)
    _names: dict[str, list[str]] = field(default_factory=dict)

    def follow(self, deadline_seconds: float) -> None:
        """Look once a second until all have ended. Raises AssertionError for a run that fails."""
        deadline = time.monotonic() + deadline_seconds
        stopped = False
        while len(self.ran) < LAST * len(self.tenants):
            assert time.monotonic() < deadline, f"not within {deadline_seconds:.0f} s; there were {sorted(self.ran)}"
            numbers = [self._look(place, tenant) for place, tenant in enumerate(self.tenants)]
            if not stopped and min(numbers) >= LAST:
                self.kubectl.run("patch", "rts", SCHEDULE, "--type=merge", "-p", '{"spec":{"suspend":true}}')
                stopped = True
            time.sleep(0.5)

    def _look(self, place: int, tenant: Tenant) -> int:
        """Look at a tenant's runs; return how many there have been, with those that are let go."""
        names = self._names.setdefault(tenant.namespace, [])
        found = self.kubectl.list("starpipelines", tenant.namespace)
        for pipeline in sorted(found, key=lambda one: one["metadata"]["annotations"]["star.recsys.dev/tick"]):
            name = pipeline["metadata"]["name"]
            if name not in names:
                names.append(name)
            number = names.index(name) + 1
            if (tenant.namespace, number) not in self.ran:
                self._see(place, tenant, number, pipeline)
        return len(names)

    def _see(self, place: int, tenant: Tenant, number: int, pipeline: Body) -> None:
        key, status = (tenant.namespace, number), pipeline.get("status", {})
        phases = {row["name"]: row["phase"] for row in status.get("stages", [])}
        told = f"{status.get('phase')}: " + " ".join(f"{name}={phase}" for name, phase in phases.items())
        if self._told.get(key) != told:
            self._told[key] = told
            say(f"{tenant.namespace} run {number} ({pipeline['metadata']['name']}) {told}")
        assert status.get("phase") != "Failed", json.dumps(status, indent=1)
        if number == 1 and tenant.namespace not in self.uploaded and phases.get("dataset") == "Succeeded":
            self.upload(tenant)
            self.uploaded[tenant.namespace] = timestamp(datetime.now(UTC))
            say(f"{tenant.namespace}: {tenant.new} new interactions are there")
        wish = self.kills.get((place, number))
        if wish is not None and key not in self.killed and phases and wish(phases):
            self._kill(key)
        if status.get("phase") == "Succeeded":
            self.ran[key] = self._end(tenant, number, pipeline)

    def _kill(self, key: tuple[str, int]) -> None:
        if name := kill_operator(self.kubectl):
            self.killed[key] = name
            say(f"operator {name} was killed in the middle of {key}")

    def _end(self, tenant: Tenant, number: int, pipeline: Body) -> Ran:
        namespace, name = tenant.namespace, pipeline["metadata"]["name"]
        resources = self.kubectl.list(",".join(KINDS), namespace)
        label = "star.recsys.dev/stage"
        stages = {
            body["metadata"]["labels"][label]: body
            for body in resources
            if body["kind"] != "Checkpoint" and body["metadata"]["name"].startswith(f"{name}-")
        }
        deployment = self.kubectl.get("stardeployment", "star", namespace)
        gates = [one for one in resources if one["kind"] == "Evaluation" and _owner(one) == "StarDeployment"]
        gates.sort(key=lambda one: one["metadata"]["creationTimestamp"])
        jobs = self.kubectl.list("jobs", namespace)
        store = self.bucket.listing(f"{namespace}/")
        goes = self._goes(namespace, store, resources) if number == 2 else set()
        snapshot = stages["dataset"]["status"]["artifact"]["uri"].removeprefix("s3://star/")
        new = tenant.arrived(self.bucket.read(f"{snapshot}/interactions.parquet"))
        ran = Ran(tenant, number, pipeline, stages, deployment, gates, jobs, store, goes, new)
        say(f"{namespace} run {number} ended: {ran.seconds} s")
        return ran

    def _goes(self, namespace: str, store: Listing, resources: list[Body]) -> set[str]:
        first = f"{self.ran[(namespace, 1)].name}-"
        gone = [one for one in resources if one["metadata"]["name"].startswith(first)]
        return to_go(self.bucket, namespace, store, gone, [one for one in resources if one not in gone])


def kill_operator(kubectl: Kubectl) -> str:
    """Kill the operator's pod without a grace period; its name, or nothing where none runs just now."""
    pods = [pod for pod in kubectl.list("pods", "star-system", OPERATOR) if _is_running(pod)]
    if not pods:
        return ""
    name = str(pods[0]["metadata"]["name"])
    kubectl.run("delete", "pod", name, "-n", "star-system", "--grace-period=0", "--force", "--wait=false")
    return name


def _owner(body: Body) -> str:
    return next((str(one["kind"]) for one in body["metadata"].get("ownerReferences", []) if one.get("controller")), "")


def _is_running(pod: Body) -> bool:
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
