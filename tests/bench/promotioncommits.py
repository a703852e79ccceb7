"""Promotions into a large repository, in turn with scripts that do the same with git alone."""

import itertools
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tests.bench.promotionworld import World, told
from tests.support.gitops import PROMOTIONS, Site
from tests.support.star import star
from tests.support.watching import watching_tip

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
"""A clone with all files."""


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


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
    """Promote by a commit; seconds from creation until the program began, and until the branch ended at its commit."""
    name = f"round-{number}"
    spec = {
        "checkpoint": {"uri": f"s3://star/recommender/{number}", "digest": digest(number)},
        "target": {"repository": url, "branch": "main", "path": PLACE, "field": "spec.checkpoint"},
        "git": {"secretRef": {"name": "recommender-git"}, "author": {"name": "STAR", "email": "star@example.com"}},
    }
    with watching_tip(world.repositories / "fleet.git") as tip:
        world.story.kubectl.apply(star("Promotion", PROMOTIONS, name, spec))
        reached = tip.reached(world.ended(name).status["commit"])
    seen = world.watched.all("promotions", PROMOTIONS, lambda one: one.body["metadata"]["name"] == name)
    began, _ = world.programs.ran[-1]
    return began - seen[0].at, reached - seen[0].at


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
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"the script failed: {done.stderr}")
        commit = site.forge.git(site.owner, Path(folder) / "work", "rev-parse", "HEAD").strip()
        return tip.reached(commit) - began


def measure_commits(world: World, files: int, rounds: int) -> dict[str, Any]:
    """Promotions into the large repository, in turn with scripts."""
    url = make_fleet(world.site, world.folder / "fleet", files)
    starts, commits, sparse, checkout = [], [], [], []
    numbers = itertools.count(1)
    for _ in range(rounds):
        start, commit = promote(world, url, next(numbers))
        starts.append(start)
        commits.append(commit)
        sparse.append(run_script(world, url, SPARSE, next(numbers)))
        checkout.append(run_script(world, url, CHECKOUT, next(numbers)))
        told(f"commit {commit:.2f} s, {start:.2f} until it began; scripts {sparse[-1]:.2f} and {checkout[-1]:.2f} s")
    return {
        "commit_p50_s": round(median(commits), 2),
        "commit_p90_s": round(float(np.percentile(commits, 90)), 2),
        "commit_over_git": round(median(commits) / median(sparse), 2),
        "commit_start_s": round(median(starts), 2),
        "git_p50_s": round(median(sparse), 2),
        "checkout_p50_s": round(median(checkout), 2),
        "files": files,
        "rounds": rounds,
    }
