"""Commits and merges until Argo CD has synced them, and whole ways of a checkpoint to production."""

from statistics import median
from typing import Any

from tests.bench.promotionworld import World, told
from tests.e2e_promotion.test_storyline import SOAK_SECONDS
from tests.support.argocd import NAMESPACE as ARGOCD
from tests.support.gitops import ENVIRONMENTS, LIVE, PROMOTIONS, Site, application
from tests.support.kubectl import eventually
from tests.support.stretches import Stretch, Way
from tests.support.watching import Sighting, Tip

SYNCS = 10


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
    commit = world.ended(name).status["commit"]
    at["commit"] = tip.reached(commit)
    at["dev"] = serves(world, "dev", wanted)
    asked = promotion_to(world, "prod", wanted, asked=True)
    at["request"] = asked.at
    request = asked.status["pullRequest"]["number"]
    merged = merge(site, request)
    at["merge"] = tip.reached(merged)
    at["prod"] = serves(world, "prod", wanted)
    syncs = [
        round(synced(world, environment, moved) - at[when], 2)
        for environment, moved, when in (("dev", commit, "commit"), ("prod", merged, "merge"))
    ]
    soak = (at["dev"], at["dev"] + SOAK_SECONDS)
    way = Way(at, {"soak": (soak,), "gates": evaluations(world, wanted)})
    told(
        f"way of {way.whole:.1f} s, {way.overhead:.1f} s beside soak and gates: {rounded(way.parts())}; synced {syncs}"
    )
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
