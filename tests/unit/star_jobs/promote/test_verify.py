"""Proof before the commit: each thing that could be tampered with is refused with the digest that differs."""

import json
from typing import Any

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.promotion import CheckpointFacts, PromotionSpec, ReportClaim
from star_contracts.settings import EvaluationSettings
from star_jobs.errors import TerminalFailure
from star_jobs.promote.verify import verify
from star_jobs.storage import ArtifactWriter
from tests.support.gitrepos import digest, promotion_spec
from tests.support.memorystore import MemoryStore, Objects

DATA, MODEL = digest(7), digest(8)
SETTINGS = EvaluationSettings(seed=3)
_PRODUCER = Producer(kind="Evaluation", namespace="team", name="e", uid="u", step="evaluate", work_hash=digest(1))


class World:
    """A checkpoint and the report of its evaluation, in a store in memory."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.store = MemoryStore(self.objects)
        self.checkpoint = self.write("s3://models/c", ArtifactKind.CHECKPOINT, {"model": MODEL}, {})
        inputs = {"llm": self.checkpoint.digest, "dataset": DATA}
        self.report = self.write("s3://models/r", ArtifactKind.REPORT, inputs, {"hrAvg": 0.4, "valid": 1.0})

    def write(self, uri: str, kind: ArtifactKind, inputs: dict[str, str], metrics: dict[str, float]) -> ArtifactRef:
        writer = ArtifactWriter(self.store, uri)
        report = {"settings": SETTINGS.model_dump(mode="json", by_alias=True)}
        writer.add_bytes(json.dumps(report).encode(), "report.json")
        return ArtifactRef(uri=uri, digest=writer.commit(kind, _PRODUCER, inputs, metrics).digest())

    def spec(self, claim: dict[str, Any] | None = None, **changes: Any) -> PromotionSpec:
        claims = {
            "evaluation": "nightly",
            "report": self.report,
            "checkpoint": self.checkpoint.digest,
            "dataset": DATA,
            "settings": value_hash(SETTINGS.to_json_dict()),
            "metrics": {"hrAvg": 0.4},
            **(claim or {}),
        }
        given = {
            "uri": self.checkpoint.uri,
            "digest": self.checkpoint.digest,
            "store": Store(),
            "reports": (ReportClaim(**claims),),
            "facts": (CheckpointFacts(digest=self.checkpoint.digest, inputs={"model": MODEL}),),
        }
        return promotion_spec("https://git.example.com/a.git", **{**given, **changes})


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_true_passes(world: World) -> None:
    verify(world.spec(), world.store)
    verify(world.spec({"dataset": None, "settings": None, "metrics": {}}), world.store)
    verify(world.spec(uri="hf://org/name"), world.store)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ({"checkpoint": digest(5)}, digest(5)),
        ({"dataset": digest(5)}, f"measured the dataset {DATA}, and {digest(5)} is needed"),
        ({"settings": digest(5)}, f"{digest(5)} is needed"),
        ({"metrics": {"hrAvg": 0.9}}, "says hrAvg is 0.4, and the Evaluation's status says 0.9"),
        ({"metrics": {"hr1": 0.9}}, "says hr1 is None"),
    ],
)
def test_a_verdict_that_was_edited(world: World, claim: dict[str, Any], says: str) -> None:
    with pytest.raises(TerminalFailure) as caught:
        verify(world.spec(claim), world.store)
    assert caught.value.reason is Reason.PROOF_DIFFERS
    assert says in caught.value.message
    assert "Evaluation nightly" in caught.value.message
    assert world.report.digest in caught.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["r", "c"])
def test_a_manifest_that_was_changed(world: World, name: str) -> None:
    uri = f"s3://models/{name}/manifest.json"
    world.objects.write(uri, world.objects[uri][0].replace(b"0.4", b"0.9").replace(MODEL.encode(), DATA.encode()))
    with pytest.raises(TerminalFailure) as caught:
        verify(world.spec(), world.store)
    assert caught.value.reason is Reason.ARTIFACT_CORRUPTED
    assert (world.report if name == "r" else world.checkpoint).digest in caught.value.message


@pytest.mark.bad_input
def test_a_report_file_that_was_changed(world: World) -> None:
    world.objects.write("s3://models/r/report.json", b'{"settings": {}}')
    with pytest.raises(TerminalFailure) as caught:
        verify(world.spec(), world.store)
    assert caught.value.reason is Reason.ARTIFACT_CORRUPTED


@pytest.mark.bad_input
def test_a_lineage_that_was_changed(world: World) -> None:
    facts = (CheckpointFacts(digest=world.checkpoint.digest, inputs={"model": digest(5)}),)
    with pytest.raises(TerminalFailure, match=f"names model {digest(5)}, and the manifest of .* says {MODEL}"):
        verify(world.spec(facts=facts), world.store)


@pytest.mark.bad_input
def test_other_kinds_of_artifacts(world: World) -> None:
    with pytest.raises(TerminalFailure, match="artifact of kind checkpoint, not a report"):
        verify(world.spec({"report": world.checkpoint}), world.store)
    with pytest.raises(TerminalFailure, match="artifact of kind report, not a checkpoint"):
        verify(world.spec(uri=world.report.uri, digest=world.report.digest, facts=()), world.store)


@pytest.mark.bad_input
def test_reports_that_are_gone(world: World) -> None:
    gone = ArtifactRef(uri="s3://models/nothing", digest=digest(3))
    with pytest.raises(TerminalFailure) as caught:
        verify(world.spec({"report": gone}), world.store)
    assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND
