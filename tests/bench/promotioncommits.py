"""Promotions into a large repository, in turn with the same by git alone."""

import itertools
import re
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
PARTS = ("deployment", "service", "config", "autoscaler", "rights")
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
SPARSE = ("--filter=blob:none", "--sparse")
"""A clone without what is not edited; a plain one has all files."""


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def write_fleet(folder: Path, files: int) -> None:
    """Write a repository of manifests, five a folder, and the file that promotions edit."""
    for number in range(files - 1):
        path = folder / "apps" / f"app-{number // 5:04}" / f"{PARTS[number % len(PARTS)]}.yaml"
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


def by_git(world: World, url: str, number: int, *flags: str) -> float:
    """Do what a promotion does with git alone, as a script would; seconds until the branch ended at its commit."""
    site = world.site
    with tempfile.TemporaryDirectory(dir=world.folder) as folder, watching_tip(world.repositories / "fleet.git") as tip:
        work = Path(folder) / "work"
        began = time.monotonic()
        shallow = ("--quiet", "--depth", "1", "--branch", "main", *flags)
        site.forge.git(site.owner, Path(folder), "clone", *shallow, url, str(work))
        if flags:
            site.forge.git(site.owner, work, "sparse-checkout", "set", str(Path(PLACE).parent))
        text = re.sub(r"uri: .*", f"uri: s3://star/recommender/{number}", (work / PLACE).read_text())
        (work / PLACE).write_text(re.sub(r"digest: .*", f"digest: {digest(number)}", text))
        site.forge.git(site.owner, work, "commit", "--quiet", "--all", "--message", f"Promote {digest(number)}")
        site.forge.git(site.owner, work, "push", "--quiet", url, "HEAD:main")
        return tip.reached(site.forge.git(site.owner, work, "rev-parse", "HEAD").strip()) - began


def measure_commits(world: World, files: int, rounds: int) -> dict[str, Any]:
    """Promotions into the large repository, in turn with git alone."""
    url = make_fleet(world.site, world.folder / "fleet", files)
    starts, commits, sparse, checkout = [], [], [], []
    numbers = itertools.count(1)
    for _ in range(rounds):
        start, commit = promote(world, url, next(numbers))
        starts.append(start)
        commits.append(commit)
        sparse.append(by_git(world, url, next(numbers), *SPARSE))
        checkout.append(by_git(world, url, next(numbers)))
        told(f"commit {commit:.2f} s, {start:.2f} until it began; git alone {sparse[-1]:.2f} and {checkout[-1]:.2f} s")
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
