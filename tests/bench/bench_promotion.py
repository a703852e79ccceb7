"""How long a promotion takes beside what is meant to take time.

    make bench-promotion     or     .venv/bin/python -m tests.bench.bench_promotion [--files 5000] [--rounds 20] [--ways 3]

Git, the forge (Gitea), Argo CD, the API server with its controllers, the operator and `star-job promote` are real. Pods
are played, and so are training, measuring and serving: what a node takes to pull an image and to start a container is
not in these figures, and no store is read. Nothing is polled by the API meanwhile: resources are watched, and the
branch's end is read from the file that Gitea keeps it in. The last line is the result:

    RESULT {"commit_p50_s": ..., "commit_over_git": ..., "sync_p50_s": ..., "overhead_s": ..., "parts": {...}, ...}

commit_p50_s, _p90_s  a Promotion (mode Commit) is created -> the branch ends at its commit; a repository of --files files
                      with a history of 100 commits; --rounds of them, one after the other
commit_job_s          of that, until the Job's program has ended that begun with its pod (median)
git_p50_s             a script of four lines, with git alone: a shallow, sparse clone without blobs, `sed`, commit, push;
                      its start -> the branch ends at its commit; in turn with the promotions
checkout_p50_s        the same with a plain shallow clone, as most such scripts do it
commit_over_git       commit_p50_s / git_p50_s
sync_p50_s, _max_s    the branch ends at a commit -> Argo CD says of the Application that it is Synced to it; a webhook
                      tells Argo CD of pushes. Ten commits that change an annotation in dev
way_sync_p50_s        the same of the commits and merges on the ways
overhead_s            the whole way of a checkpoint (median of --ways): its Checkpoint is there -> it is committed to dev ->
                      dev serves it -> soak -> pull request -> merged at once -> prod serves it; without the soak (5 s) and
                      without the time in which Evaluations (the pipeline's last stage, dev's gate, prod's gate) ran
overhead_max_s        of the slowest one
parts                 what overhead_s is the sum of, in the median way: seconds to each moment from the one before
whole_s, soak_s, gates_s  all of that way, and what is left out of it
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from kubernetes import client

from star_cli.local.binaries import Binaries
from star_contracts.names import GROUP, VERSION
from star_contracts.result import JobResult
from tests.e2e_promotion.test_storyline import SOAK_SECONDS, Story
from tests.integration.conftest import open_control_plane
from tests.support.argocd import NAMESPACE as ARGOCD
from tests.support.fakekubelet import fake_kubelet
from tests.support.gitops import ENVIRONMENTS, LIVE, PROMOTIONS, Site, application, open_site
from tests.support.kubectl import eventually
from tests.support.operator import OperatorProcess
from tests.support.promoting import promote_here
from tests.support.star import star
from tests.support.stretches import Stretch, Way
from tests.support.stubs3 import Reply, stub_s3
from tests.support.watching import Sighting, Tip, Watched, watching, watching_tip

SYNCS = 10
COMMITS = 100
"""Of the large repository before anything is promoted into it."""
PLACE = "envs/prod/student.yaml"
FILE = """\
apiVersion: star.recsys.dev/v1alpha1
kind: StarDeployment
metadata: {name: student}
spec:
  dataset: {name: movielens}
  checkpoint:
    uri: s3://star/recommender/0
    digest: sha256:0
"""
SPARSE = """\
set -euo pipefail
git clone --quiet --depth 1 --branch main --filter=blob:none --sparse "$URL" work
cd work && git sparse-checkout set envs/prod
sed -i "s|uri: .*|uri: s3://star/recommender/$NUMBER|; s|digest: .*|digest: $DIGEST|" envs/prod/student.yaml
git commit --quiet --all --message "Promote $DIGEST"
git push --quiet origin HEAD:main
"""
CHECKOUT = SPARSE.replace(" --filter=blob:none --sparse", "").replace(" && git sparse-checkout set envs/prod", "")
KINDS = {
    **dict.fromkeys(("checkpoints", "promotions", "evaluations", "stardeployments"), (GROUP, VERSION)),
    "applications": ("argoproj.io", "v1alpha1"),
}


class Programs:
    """Runs promotions' programs, and remembers when."""

    def __init__(self) -> None:
        self.ran: list[Stretch] = []

    def __call__(self, core: client.CoreV1Api, pod: dict[str, Any]) -> JobResult:
        began = time.monotonic()
        try:
            return promote_here(core, pod)
        finally:
            self.ran.append((began, time.monotonic()))


class World:
    """What everything is measured in."""

    def __init__(self, story: Story, watched: Watched, programs: Programs, folder: Path) -> None:
        self.story, self.site, self.watched, self.programs, self.folder = story, story.site, watched, programs, folder

    @property
    def repositories(self) -> Path:
        """Where the forge keeps the team's bare repositories."""
        return next(self.site.forge.folder.rglob("recommender.git")).parent


def told(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


# --- a commit ---------------------------------------------------------------------------------------------------------


def write_fleet(folder: Path, files: int) -> None:
    """Write a repository of manifests, five a folder, and the file that promotions edit."""
    for number in range(files - 1):
        path = (
            folder
            / "apps"
            / f"app-{number // 5:04}"
            / f"{('deploy', 'service', 'config', 'hpa', 'rbac')[number % 5]}.yaml"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"  key-{row}: {(number * 2654435761 + row * 40503) % 2**64:016x}\n" for row in range(30))
        path.write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app-{number}}}\ndata:\n{rows}")
    (folder / PLACE).parent.mkdir(parents=True)
    (folder / PLACE).write_text(FILE)


def make_fleet(site: Site, folder: Path, files: int) -> str:
    """Make the large repository, with a history; its URL."""
    write_fleet(folder, files)
    url = site.forge.create_repository(site.owner, "fleet", folder)
    for number in range(COMMITS - 1):
        (folder / "apps" / f"app-{number % (files // 5 or 1):04}" / "config.yaml").write_text(f"version: {number}\n")
        site.forge.git(site.owner, folder, "add", "--all")
        site.forge.git(site.owner, folder, "commit", "--quiet", "--message", f"change {number}")
    site.forge.git(site.owner, folder, "push", "--quiet", url, "HEAD:main")
    return url


def promote(world: World, url: str, number: int) -> tuple[float, float]:
    """Promote by a commit; when the Promotion was created, and when the branch was seen to end at its commit."""
    name = f"round-{number}"
    spec = {
        "checkpoint": {"uri": f"s3://star/recommender/{number}", "digest": digest(number)},
        "target": {"repository": url, "branch": "main", "path": PLACE, "field": "spec.checkpoint"},
        "git": {"secretRef": {"name": "recommender-git"}, "author": {"name": "STAR", "email": "star@example.com"}},
    }
    with watching_tip(world.repositories / "fleet.git") as tip:
        began = time.monotonic()
        world.story.kubectl.apply(star("Promotion", PROMOTIONS, name, spec))
        created = time.monotonic()
        ended = wait_ended(world, name)
        if ended.status["phase"] != "Succeeded":
            raise SystemExit(f"Promotion {name}: {json.dumps(ended.status['conditions'])}")
        reached = tip.reached(ended.status["commit"])
    seen = world.watched.all("promotions", PROMOTIONS, lambda one: one.body["metadata"]["name"] == name)
    return max(began, min(created, seen[0].at)), reached


def wait_ended(world: World, name: str) -> Sighting:
    def ended(one: Sighting) -> bool:
        return one.body["metadata"]["name"] == name and one.status.get("phase") in ("Succeeded", "Failed")

    return world.watched.wait("promotions", PROMOTIONS, ended, f"Promotion {name} has ended")


def run_script(world: World, url: str, script: str, number: int) -> float:
    """Run a script that does what a promotion does; seconds until the branch ended at its commit."""
    site = world.site
    who = {"GIT_AUTHOR_NAME": "team", "GIT_AUTHOR_EMAIL": "team@example.com"}
    who |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in who.items()}
    env = {**who, **site.owner.git_environment, "GIT_SSL_CAINFO": str(site.forge.authority), "GIT_TERMINAL_PROMPT": "0"}
    env |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    env |= {"URL": url, "NUMBER": str(number), "DIGEST": digest(number)}
    with tempfile.TemporaryDirectory(dir=world.folder) as folder, watching_tip(world.repositories / "fleet.git") as tip:
        began = time.monotonic()
        subprocess.run(["bash", "-c", script], cwd=folder, env=env, check=True, timeout=300)
        commit = site.forge.git(site.owner, Path(folder) / "work", "rev-parse", "HEAD").strip()
        return tip.reached(commit) - began


def measure_commits(world: World, files: int, rounds: int) -> dict[str, Any]:
    """Promotions into the large repository, in turn with scripts."""
    url = make_fleet(world.site, world.folder / "fleet", files)
    commits, jobs, sparse, checkout = [], [], [], []
    numbers = itertools.count(1)
    for _ in range(rounds):
        began, reached = promote(world, url, next(numbers))
        first, last = world.programs.ran[-1]
        commits.append(reached - began)
        jobs.append(last - first)
        sparse.append(run_script(world, url, SPARSE, next(numbers)))
        checkout.append(run_script(world, url, CHECKOUT, next(numbers)))
        told(f"commit {commits[-1]:.2f} s (program {jobs[-1]:.2f}), scripts {sparse[-1]:.2f} and {checkout[-1]:.2f} s")
    return {
        "commit_p50_s": round(median(commits), 2),
        "commit_p90_s": round(float(np.percentile(commits, 90)), 2),
        "commit_over_git": round(median(commits) / median(sparse), 2),
        "commit_job_s": round(median(jobs), 2),
        "git_p50_s": round(median(sparse), 2),
        "checkout_p50_s": round(median(checkout), 2),
        "files": files,
        "rounds": rounds,
    }


# --- Argo CD ----------------------------------------------------------------------------------------------------------


def synced(world: World, environment: str, commit: str) -> float:
    """When Argo CD said that an environment is synced to a commit."""

    def holds(one: Sighting) -> bool:
        sync = one.status.get("sync", {})
        named = one.body["metadata"]["name"] == application(environment)
        return named and (sync.get("revision"), sync.get("status")) == (commit, "Synced")

    return world.watched.wait("applications", ARGOCD, holds, f"{environment} is synced to {commit}").at


def measure_syncs(world: World, tip: Tip) -> list[float]:
    """Seconds from a push to the sync, of commits by hand."""
    found = []
    for number in range(SYNCS):

        def annotate(patch: Any, number: int = number) -> None:
            patch["metadata"]["annotations"]["example.com/round"] = str(number)

        commit = world.site.adapt("dev/observers.yaml", annotate)
        pushed = tip.reached(commit)
        found.append(synced(world, "dev", commit) - pushed)
        told(f"synced after {found[-1]:.2f} s")
    return found


# --- the whole way ----------------------------------------------------------------------------------------------------


def serves(world: World, environment: str, wanted: str) -> float:
    """When all of an environment's traffic was seen to go to a digest."""

    def holds(one: Sighting) -> bool:
        rows = one.status.get("served", [])
        all_of_it = any((row["digest"], row["weight"], row["serving"]) == (wanted, 100, True) for row in rows)
        return one.body["metadata"]["name"] == LIVE and one.status.get("servingDigest") == wanted and all_of_it

    what = f"{environment} serves {wanted}"
    return world.watched.wait("stardeployments", ENVIRONMENTS[environment], holds, what).at


def evaluations(world: World, wanted: str) -> tuple[Stretch, ...]:
    """When Evaluations of a digest were there and had not ended."""
    found = []
    for namespace in (PROMOTIONS, *ENVIRONMENTS.values()):
        rows: dict[str, list[Sighting]] = {}
        for one in world.watched.all("evaluations", namespace, lambda _: True):
            rows.setdefault(one.body["metadata"]["uid"], []).append(one)
        named = {
            one.body["metadata"]["name"]
            for one in world.watched.all("checkpoints", namespace, lambda one: one.body["spec"]["digest"] == wanted)
        }
        for seen in rows.values():
            model = seen[-1].body["spec"].get("llm", {}).get("server", {}).get("model", {})
            ended = [one.at for one in seen if one.status.get("phase") == "Succeeded"]
            if ended and (model.get("digest") == wanted or model.get("checkpoint") in named):
                found.append((seen[0].at, ended[0]))
    return tuple(found)


def promotion_to(world: World, environment: str, wanted: str, *, asked: bool = False) -> Sighting:
    """The first sighting of the Promotion of a digest, or the first with its pull request."""

    def holds(one: Sighting) -> bool:
        spec = one.body["spec"]
        here = (spec.get("environment"), spec["checkpoint"].get("digest")) == (environment, wanted)
        return here and (not asked or bool(one.status.get("pullRequest")))

    what = f"a Promotion of {wanted} to {environment}{' with a pull request' if asked else ''}"
    return world.watched.wait("promotions", PROMOTIONS, holds, what)


def walk(world: World, tip: Tip, number: int) -> tuple[Way, list[float]]:
    """Train a checkpoint, and see it through to prod; and how long Argo CD took for its two commits."""
    site = world.site
    wanted = world.story.trains(f"night-{number}", number * 1e-6)
    at = {
        "checkpoint": world.watched.wait(
            "checkpoints", PROMOTIONS, lambda one: one.body["spec"]["digest"] == wanted, f"Checkpoint {wanted}"
        ).at,
        "promotion": promotion_to(world, "dev", wanted).at,
    }
    name = promotion_to(world, "dev", wanted).body["metadata"]["name"]
    commit = wait_ended(world, name).status["commit"]
    at["commit"] = tip.reached(commit)
    at["dev"] = serves(world, "dev", wanted)
    asked = promotion_to(world, "prod", wanted, asked=True)
    at["request"] = asked.at
    request = asked.status["pullRequest"]["number"]
    merged = merge(site, request)
    at["merge"] = tip.reached(merged)
    at["prod"] = serves(world, "prod", wanted)
    syncs = [synced(world, "dev", commit) - at["commit"], synced(world, "prod", merged) - at["merge"]]
    soak = (at["dev"], at["dev"] + SOAK_SECONDS)
    way = Way(at, {"soak": (soak,), "gates": evaluations(world, wanted)})
    told(f"way of {way.whole:.1f} s, {way.overhead:.1f} s beside soak and gates: {rounded(way.parts())}")
    return way, syncs


def merge(site: Site, number: int) -> str:
    """Merge a pull request as soon as the forge lets us; the merge's commit."""

    def accepted() -> bool:
        try:
            site.forge.merge(site.owner, site.repository, number)
        except AssertionError as error:  # it still looks whether it can be merged
            if "405" not in str(error):
                raise
            return False
        return True

    eventually(accepted, f"pull request {number} is merged", seconds=60)
    return str(site.forge.call("GET", f"/repos/{site.repository}/pulls/{number}", site.owner)["merge_commit_sha"])


def rounded(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 2) for name, seconds in parts.items()}


def measure_ways(world: World, tip: Tip, ways: int) -> dict[str, Any]:
    """Whole ways, one after the other."""
    walked = [walk(world, tip, number + 1) for number in range(ways)]
    ordered = sorted((way for way, _ in walked), key=lambda way: way.overhead)
    middle = ordered[(len(ordered) - 1) // 2]
    return {
        "overhead_s": round(middle.overhead, 2),
        "overhead_max_s": round(ordered[-1].overhead, 2),
        "parts": rounded(middle.parts()),
        "whole_s": round(middle.whole, 2),
        "soak_s": round(middle.took("soak"), 2),
        "gates_s": round(middle.took("gates"), 2),
        "way_sync_p50_s": round(median(seconds for _, syncs in walked for seconds in syncs), 2),
        "ways": ways,
    }


# --- all of it --------------------------------------------------------------------------------------------------------


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Everything, started; dev and prod serve a first checkpoint."""
    with ExitStack() as stack:
        plane = stack.enter_context(open_control_plane())
        hub = stack.enter_context(stub_s3(Reply(200, '{"sha": "' + "c0ffee0000" * 4 + '"}', "application/json")))
        operator = OperatorProcess(plane.service_account_kubeconfig("star-system", "star-operator"), folder, hub.url)
        operator.start()
        stack.callback(operator.stop)
        kubelet = stack.enter_context(fake_kubelet(plane.kubeconfig))
        site = stack.enter_context(open_site(folder / "site", plane.kubeconfig))
        story, programs = Story(site, site.kubectl, operator, kubelet), Programs()
        kubelet.programs["promotion"] = programs
        watched = stack.enter_context(watching(plane.kubeconfig, KINDS))
        story.begins()
        yield World(story, watched, programs, folder)
        if kubelet.errors:
            raise SystemExit(f"the played kubelet met errors: {kubelet.errors}")


def benchmark(files: int, rounds: int, ways: int) -> dict[str, Any]:
    """Measure commits, syncs and ways."""
    Binaries().ensure("git")
    with tempfile.TemporaryDirectory(prefix="star-bench-", ignore_cleanup_errors=True) as folder:
        with opened(Path(folder)) as world:
            commits = measure_commits(world, files, rounds)
            with watching_tip(world.repositories / "recommender.git") as tip:
                syncs = measure_syncs(world, tip)
                found = measure_ways(world, tip, ways)
    sync = {"sync_p50_s": round(median(syncs), 2), "sync_max_s": round(max(syncs), 2)}
    return {**commits, **sync, **found}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ways", type=int, default=3)
    options = parser.parse_args()
    print("RESULT " + json.dumps(benchmark(options.files, options.rounds, options.ways)))


if __name__ == "__main__":
    main()
