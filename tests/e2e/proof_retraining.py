"""Two tenants that a schedule retrains with real pods: new data, kills, nothing new, and what is let go.

    make e2e-retraining

It takes half an hour, so `make e2e` leaves it out (pytest collects `test_*.py`). Three ticks: each tenant's model is
made, made again of what has changed after new interactions came, and found done where nothing has. The operator is
killed in the middle of the runs. Then retention deletes what the first runs made, and the store is compared with what
an independent look at resources and objects says must be left.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from star_cli.demo.store import Store
from star_cli.demo.target import Target, local_target
from star_cli.install import Chart
from star_cli.local.binaries import Binaries
from star_cli.local.cluster import LocalCluster
from star_cli.local.progress import Terminal
from star_contracts.names import LABEL_KIND, LABEL_NAME, LABEL_STEP
from star_operator.core.times import to_seconds
from tests.support.kubectl import Kubectl, eventually
from tests.support.pace import stretched
from tests.support.podwatch import PodWatch, gpus, is_server
from tests.support.retrained import KINDS, Following, Ran, say
from tests.support.storelist import Bucket, Listing, own, subject
from tests.support.tenants import MINUTES, SCHEDULE, Tenant, first_tick, prepare, schedule
from tests.support.traffic import Traffic, gateway_key

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[2]
ATTEMPTS = 3
"""Answers that are asked for an entry at most."""
STEP_LABELS = (LABEL_KIND, LABEL_NAME, LABEL_STEP)
TENANTS = (
    Tenant("retrain-a", new=200),
    Tenant("retrain-b", new=60, patch={"grpo": None}),  # a tenant may leave a stage out
)


def runs(stage: str) -> Any:
    """When this stage runs."""
    return lambda phases: phases.get(stage) == "Running"


KILLS = {
    (0, 1): runs("teacher"),
    (1, 1): runs("sft"),
    (0, 2): runs("verbalization"),
    (1, 2): runs("evaluation"),
    (0, 3): lambda phases: phases.get("dataset") == "Succeeded",
    # The last run of the second tenant is let alone: its time is the figure.
}


@dataclass
class Proof:
    """What was seen, from the first tick to the last run's end."""

    following: Following
    watch: PodWatch
    left: dict[str, Listing]
    """By namespace: the store when retention was done."""
    answered: dict[str, str]
    """By namespace: the digest that answered through the gateway in the end."""

    def run(self, tenant: Tenant, number: int) -> Ran:
        """Return a run."""
        return self.following.ran[(tenant.namespace, number)]


@pytest.fixture(scope="module")
def target(cluster: LocalCluster) -> Target:
    """The cluster with this checkout's operator."""
    reporter = Terminal()
    found = local_target(cluster.name, ROOT, reporter)
    Chart(ROOT, Binaries(reporter=reporter).ensure("helm"), reporter).install(found.kubeconfig, found.values)
    return found


@pytest.fixture(scope="module")
def proof(target: Target, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    """All of it, done."""
    bucket, store, folder = Bucket.of(target.store), Store(target.store), tmp_path_factory.mktemp("sources")
    clear(kubectl, bucket)
    prepare(TENANTS, target, Terminal(), folder)
    following = Following(kubectl, bucket, TENANTS, KILLS, lambda tenant: tenant.upload(store, folder, everything=True))
    with PodWatch(kubectl) as watch:
        kubectl.apply(dict(schedule(TENANTS, first_tick(datetime.now(UTC)))))
        say(kubectl.run("get", "rts", SCHEDULE).strip())
        following.follow(stretched(2700))
        answered = {tenant.namespace: ask(kubectl, tenant.namespace) for tenant in TENANTS}
        left = {tenant.namespace: swept(kubectl, bucket, following, tenant) for tenant in TENANTS}
        yield Proof(following, watch, left, answered)
    clear(kubectl, bucket)


def clear(kubectl: Kubectl, bucket: Bucket) -> None:
    """Take away what is here of an earlier session."""
    kubectl.run("delete", "rts", SCHEDULE, "--ignore-not-found", "--wait=false")
    for tenant in TENANTS:
        kubectl.run("delete", "namespace", tenant.namespace, "--ignore-not-found", "--timeout=110s")
        bucket.empty(f"{tenant.namespace}/")
        bucket.empty(f"raw/{tenant.namespace}/")


def ask(kubectl: Kubectl, namespace: str) -> str:
    """Ask the tenant's gateway for a recommendation; return whose weights answered."""
    service = kubectl.get("service", "star", namespace)["spec"]
    url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
    traffic = Traffic(url, patience=150, key=gateway_key(kubectl, "star", namespace))
    traffic.ask("visitor")
    assert traffic.failures == []
    return traffic.checkpoints["visitor"][-1]


def swept(kubectl: Kubectl, bucket: Bucket, following: Following, tenant: Tenant) -> Listing:
    """Wait until retention has nothing left to do in a namespace; return what lies in the store."""
    namespace, first = tenant.namespace, following.ran[(tenant.namespace, 1)]

    def done() -> bool:
        names = {one["metadata"]["name"] for one in kubectl.list("starpipelines", namespace)}
        marks = bucket.listing(f"{namespace}/retention/")
        sweeps = kubectl.list("jobs", namespace, f"{LABEL_KIND}=retention")
        return first.name not in names and not marks and not sweeps

    eventually(done, f"the first run of {namespace} is let go", seconds=stretched(300))
    say(f"{namespace}: retention is done")
    return bucket.listing(f"{namespace}/")


def artifacts(ran: Ran) -> dict[str, str]:
    """Return the digest that each stage made or found."""
    return {stage: body["status"]["artifact"]["digest"] for stage, body in ran.stages.items()}


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.namespace)
class TestEachTenant:
    def test_the_clock_started_every_run(self, proof: Proof, tenant: Tenant) -> None:
        ticks = [proof.run(tenant, number).tick for number in (1, 2, 3)]
        assert ticks == sorted(set(ticks))
        assert len({to_seconds(tick) // 60 % MINUTES for tick in ticks}) == 1, "all are times of the schedule"
        assert {to_seconds(tick) % 60 for tick in ticks} == {0}
        arrived = proof.following.uploaded[tenant.namespace]
        assert ticks[0] < arrived < ticks[1], "the new interactions came between two ticks"

    def test_the_first_run_makes_everything_and_serves_it(self, proof: Proof, tenant: Tenant) -> None:
        ran = proof.run(tenant, 1)
        assert not any(row["reused"] for row in ran.rows.values())
        assert ran.deployment["status"]["servingDigest"] == ran.pipeline["status"]["checkpoint"]["digest"]
        assert ("grpo" in ran.stages) == ("grpo" not in tenant.patch)

    def test_the_second_run_has_the_new_interactions(self, proof: Proof, tenant: Tenant) -> None:
        first, second = (proof.run(tenant, number) for number in (1, 2))
        sources = [ran.stages["dataset"]["status"]["source"]["digest"] for ran in (first, second)]
        assert sources[0] != sources[1]
        say(f"{tenant.namespace}: {second.new} of {tenant.new} new interactions are in the snapshot")
        assert first.new == 0
        assert second.new > tenant.new / 2  # what came after a task's answer is hidden by the leak rules

    def test_the_second_run_verbalizes_only_what_changed(self, proof: Proof, tenant: Tenant) -> None:
        ran = proof.run(tenant, 2)
        before = proof.run(tenant, 1).stages["verbalization"]["metadata"]["name"]
        assert ran.pipeline["status"]["previous"] == before
        metrics = ran.stages["verbalization"]["status"]["metrics"]
        say(f"{tenant.namespace}: of {metrics['entries']:.0f} signals {metrics['reused']:.0f} were taken over")
        assert metrics["reused"] + metrics["made"] == metrics["entries"]
        assert 0 < metrics["made"] < metrics["reused"]
        assert metrics["made"] <= metrics["calls"] <= ATTEMPTS * metrics["made"], "a model was asked about nothing else"

    def test_the_second_run_trains_passes_its_gate_and_moves_the_deployment(self, proof: Proof, tenant: Tenant) -> None:
        first, second = proof.run(tenant, 1), proof.run(tenant, 2)
        assert not set(artifacts(first).values()) & set(artifacts(second).values()), "all of it was made anew"
        status = second.deployment["status"]
        assert status["servingDigest"] == second.pipeline["status"]["checkpoint"]["digest"]
        assert status["servingDigest"] != first.deployment["status"]["servingDigest"]
        (revision,) = (one for one in status["revisions"] if one["digest"] == status["servingDigest"])
        assert (revision["gate"], revision["weight"]) == ("Passed", 100)
        assert len(second.gates) == len(first.gates) + 1, "its model was measured"
        assert proof.answered[tenant.namespace] == status["servingDigest"]

    def test_the_third_run_reuses_everything_and_starts_no_server(self, proof: Proof, tenant: Tenant) -> None:
        second, third = proof.run(tenant, 2), proof.run(tenant, 3)
        reused = {name: row["reused"] for name, row in third.rows.items() if name != "deployment"}
        assert all(reused.values()), reused
        assert artifacts(third) == artifacts(second)
        served = [ran.deployment["status"]["servingDigest"] for ran in (second, third)]
        assert served[0] == served[1]
        until = third.pipeline["status"]["completionTime"]
        pods = proof.watch.of(tenant.namespace, third.created, until)
        say(f"{tenant.namespace}: the third run took {third.seconds} s and {len(pods)} pods")
        assert pods
        assert not [pod["metadata"]["name"] for pod in pods if is_server(pod) or gpus(pod)]

    def test_each_step_had_one_job_whatever_was_killed(self, proof: Proof, tenant: Tenant) -> None:
        jobs = [job["metadata"]["labels"] for job in proof.run(tenant, 3).jobs]
        steps = [tuple(labels.get(label) for label in STEP_LABELS) for labels in jobs]
        assert len(steps) == len(set(steps))

    def test_retention_takes_the_first_runs_artifacts_and_nothing_else(
        self, proof: Proof, kubectl: Kubectl, tenant: Tenant
    ) -> None:
        second, third = proof.run(tenant, 2), proof.run(tenant, 3)
        after = proof.left[tenant.namespace]
        goes = second.goes
        assert goes, "the first run left something"
        marks = f"{tenant.namespace}/retention"  # there may be some already: the third run's end lets the first one go
        written = {key for key, entry in third.store.items() if second.store.get(key) != entry}
        new = {key for key in written if not key.startswith(marks) and subject(key) is None}
        assert not new, "a run that reuses everything writes nothing but what its records are told by"
        say(f"{tenant.namespace}: {len(second.store)} objects, of which {len(goes)} had to go")
        assert set(second.store) - set(after) == goes
        stays = {key: entry for key, entry in second.store.items() if key not in goes}
        assert {key: entry for key, entry in after.items() if key in stays or subject(key) is None} == stays
        kept = own(kubectl.list(",".join(KINDS), tenant.namespace))
        assert {uri for key in after if (uri := subject(key)) is not None} <= set(kept.values())
        for uri in kept.values():
            assert f"{uri.removeprefix('s3://star/')}/manifest.json" in after


def test_the_operator_was_killed_in_the_middle(proof: Proof) -> None:
    assert len(proof.following.killed) == len(KILLS)
    assert len(set(proof.following.killed.values())) == len(KILLS), "each time another pod"


def test_figures(proof: Proof) -> None:
    ran = list(proof.following.ran.values())
    handovers = {f"{one.tenant.namespace}/{name}": seconds for one in ran for name, seconds in one.handovers().items()}
    say(json.dumps(handovers))
    ordered = sorted(handovers.values())
    first = [proof.run(tenant, 1) for tenant in TENANTS]  # one of them waits for the other
    late = [to_seconds(one.created) - to_seconds(one.tick) for one in first]
    figures = {
        "handover_p99_s": ordered[round(0.99 * (len(ordered) - 1))],
        "handovers": len(ordered),
        "fire_s": min(late),
        "third_run_s": proof.run(TENANTS[1], 3).seconds,
        "third_run_with_a_kill_s": proof.run(TENANTS[0], 3).seconds,
        "runs_s": [one.seconds for one in ran],
        "kills": len(proof.following.killed),
    }
    os.write(2, f"RESULT {json.dumps(figures)}\n".encode())
