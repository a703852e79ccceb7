"""What a StarDeployment says of what it serves: (what was decided, what was seen) -> phase, reason, sentence.

It is Ready when all servers that are wanted are ready, and all gateways. That is the rule by which kstatus and Argo CD
call a Deployment done; a Deployment's own condition Available would be True with a quarter of its pods missing, and who
asks for eight servers is to hear of the seventh. That somebody answers is `status.servingDigest`, and how many do,
`status.readyReplicas`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from star_operator.api.meta import Phase
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.core.views import ServerView, Trouble
from star_operator.policy.gates import Gate, Verdict
from star_operator.policy.rollout import EVERYTHING


@dataclass(frozen=True)
class Share:
    """A revision that runs."""

    name: str
    weight: int
    """Percent of the traffic."""
    server: ServerView


@dataclass(frozen=True)
class Front:
    """The gateway."""

    ready: int = 0
    """Its pods that are ready."""
    wanted: int = 1
    trouble: Trouble | None = None
    """Why it lacks pods."""


@dataclass(frozen=True)
class Scene:
    """What serves, as it was seen."""

    shares: tuple[Share, ...]
    """The newest comes last."""
    replicas: int
    """Servers that each revision is to have; 0 where it is scaled to nothing."""
    front: Front
    replaces: str = ""
    """The revision that the newest takes over from."""
    suspended: bool = False
    url: str = ""
    hold_seconds: int = 0
    """How long requests wait for a server."""
    gone: str = ""
    """What it goes on without, as a sentence."""

    @property
    def answers(self) -> bool:
        """Say whether somebody is answered."""
        live = any(one.weight and (one.server.ready or not self.replicas) for one in self.shares)
        return bool(live and self.front.ready)

    @property
    def still(self) -> str:
        """Return the end of a sentence: what goes on meanwhile."""
        serving = next((one.name for one in self.shares if one.weight), None)
        return f"; revision {serving} goes on serving" if serving is not None else "; nothing is served"


@dataclass(frozen=True)
class Told:
    """A condition to be."""

    phase: Phase
    reason: AnyReason
    message: str
    silent: bool = False
    """Nothing tells of what it waits for: it is looked at again."""


def complete(view: ServerView, replicas: int) -> bool:
    """Say whether a revision has all servers that it is to have, and some."""
    return bool(replicas) and view.ready_replicas >= replicas


def held_back(scene: Scene, gate: Gate, wanted: str) -> Told:
    """Say what keeps the wanted revision from being served."""
    if gate.verdict is Verdict.RUNNING:
        return Told(Phase.RUNNING, gate.reason or ConditionReason.GATE_RUNNING, gate.message + scene.still)
    text = f"revision {wanted}: {gate.message}{scene.still}"
    return Told(Phase.GATED, gate.reason or ConditionReason.GATE_FAILED, text)


Explain = Callable[[Trouble | None, str], Trouble | None]
"""Puts a trouble into words that name the field: of the trouble, and of the field whose `resources` the pods have."""


def served(scene: Scene, gate: Gate, explain: Explain) -> Told:
    """Say how far the newest revision, which has passed its gates, is."""
    if scene.suspended:
        return Told(Phase.SUSPENDED, ConditionReason.SUSPENDED, "spec.suspend is true: nothing is served")
    newest = scene.shares[-1]
    needed = [one for one in scene.shares if one.weight or one is newest] if scene.replicas else []
    down = next((one.server for one in needed if not one.server.ready), None)
    if down is not None:
        trouble = explain(down.trouble, "spec.server.compute")
        return _starting(f"server {down.name}", ConditionReason.SERVER_STARTING, trouble, scene, gate)
    if not scene.front.ready:
        trouble = explain(scene.front.trouble, "spec.gateway")
        return _starting("the gateway", ConditionReason.GATEWAY_STARTING, trouble, scene, gate)
    if newest.weight < EVERYTHING or scene.replaces:
        before = scene.replaces or next(one.name for one in scene.shares if one.weight)
        text = f"revision {newest.name} answers {newest.weight}% of the users, revision {before} the others"
        lacks = _lacks(scene, newest, explain)
        return Told(Phase.RUNNING, ConditionReason.ROLLING_OUT, f"{text} (gates: {gate.message}){lacks}")
    if not scene.replicas:
        text = f"server.replicas is 0: requests to {scene.url} wait for a server, for up to {scene.hold_seconds} s"
        return Told(Phase.READY, ConditionReason.SCALED_TO_ZERO, text)
    lacks = _lacks(scene, newest, explain)
    without = f"; it goes on as it began: {scene.gone}" if scene.gone else ""
    text = f"revision {newest.name} serves at {scene.url} ({gate.message}){lacks}{without}"
    if lacks:
        silent = newest.server.trouble is None and scene.front.trouble is None
        return Told(Phase.DEGRADED, ConditionReason.DEGRADED, text, silent)
    return Told(Phase.READY, ConditionReason.SERVING, text)


def _lacks(scene: Scene, newest: Share, explain: Explain) -> str:
    """Return the end of a sentence: how many of how many are ready, and why not all; empty where they are."""
    view, front = newest.server, scene.front
    parts = []
    if scene.replicas and view.ready_replicas < scene.replicas:
        why = explain(view.trouble, "spec.server.compute")
        parts.append(f"{view.ready_replicas} of {scene.replicas} servers are ready{_because(why)}")
    if front.ready < front.wanted:
        why = explain(front.trouble, "spec.gateway")
        parts.append(f"{front.ready} of {front.wanted} gateways are ready{_because(why)}")
    return "".join(f"; {part}" for part in parts)


def _because(trouble: Trouble | None) -> str:
    return f": {trouble.message}" if trouble is not None else ""


def _starting(part: str, reason: ConditionReason, why: Trouble | None, scene: Scene, gate: Gate) -> Told:
    """Say what is starting, or what it waits for."""
    still = scene.still if scene.answers else ""
    if why is not None and why.waits:
        return Told(Phase.WAITING, why.reason, f"{part} waits: {why.message} (gates: {gate.message}){still}")
    text = f"{part}: {why.message if why else 'starting'} (gates: {gate.message}){still}"
    return Told(Phase.RUNNING, reason, text, silent=why is None)
